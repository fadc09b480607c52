"""`ultrathink orchestrator run|step`: the process, and what its steps are."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from stack.cli.output import err

if TYPE_CHECKING:
    from trainers.orchestrator.store import Store

app = typer.Typer(
    no_args_is_help=True,
    help="Trainings that run by themselves: schedules, triggers, and the cycle from data to a champion.",
)
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
ReasonOption = Annotated[str, typer.Option(help="Recorded with the command.")]
RunArgument = Annotated[str, typer.Argument(help="Of the run: `orchestrator status` lists them.")]


@contextmanager
def opened() -> Iterator[Store]:
    """The store; its process need not run. Raises ConfigurationError, ServiceUnavailable."""
    from stack.processes.settings import orchestrator_settings
    from stack.servers.settings import is_started, load
    from trading.errors import ServiceUnavailable
    from trainers.orchestrator.migrations import prepare
    from trainers.orchestrator.store import Store

    home = load().absolute_home
    if not is_started(home) and "ULTRATHINK_ORCHESTRATOR_POSTGRES_URL" not in os.environ:
        raise ServiceUnavailable(
            f"there is no stack in {home}: `ultrathink stack up --profile full` starts one, and "
            "ULTRATHINK_ORCHESTRATOR_POSTGRES_URL names another's database"
        )
    url = orchestrator_settings().postgres_url.get_secret_value()
    prepare(url)
    with closing(Store(url)) as store:
        yield store


@app.command(epilog="Example: ultrathink orchestrator run --port 8030")
def run(
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="To listen on; default: the stack's, else 8030; 0: a free one."),
    ] = None,
    host: Annotated[str | None, typer.Option(help="To listen on; loopback unless asked.")] = None,
) -> None:
    """Move runs on and answer over HTTP, until SIGTERM or Ctrl-C; steps that run go on, and are found again.

    Several may run at once, on as many machines: each slot of a schedule is run once. GET /openapi.json says what
    can be asked; every request but for health needs the token. Settings: ULTRATHINK_ORCHESTRATOR_* too.
    """
    from stack.processes.settings import orchestrator_settings
    from stack.workflows.orchestrator.running import serve

    settings = orchestrator_settings(port=port, host=host)
    serve(
        settings,
        lambda bound: err.print(f"listens on http://{settings.host}:{bound}", markup=False, soft_wrap=True),
    )


@app.command(hidden=True, epilog="Example: ultrathink orchestrator step 3f2a90c1d4e5 1")
def step(
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="Whose step.")],
    fence: Annotated[int, typer.Argument(min=1, help="Of the attempt that was begun.")],
) -> None:
    """Do the step that a run stands at, and tell what it came to: an executor starts this."""
    from stack.workflows.orchestrator.stepping import do_step

    raise typer.Exit(do_step(run_id, fence))
