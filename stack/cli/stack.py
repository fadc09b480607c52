"""`ultrathink stack`: the real servers, without Docker."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.markup import escape
from rich.table import Table

from stack.cli.output import err, out, print_json, state_text, table

if TYPE_CHECKING:
    from stack.servers.settings import StackSettings
    from stack.servers.status import StackStatus

app = typer.Typer(no_args_is_help=True, help="Start, watch and stop the real servers, without Docker.")

Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]


@app.command(epilog="Example: ultrathink stack up --brokers 3 --ports auto")
def up(
    brokers: Annotated[int | None, typer.Option(min=1, max=3, help="1 (default), or 3 with replication.")] = None,
    ports: Annotated[
        Literal["default", "auto"] | None,
        typer.Option(help="auto: any free ports; default: as before, or default."),
    ] = None,
    model_repository: Annotated[
        Path | None, typer.Option(help="Folder that Triton serves; default: model_repository.")
    ] = None,
    kafka_security: Annotated[
        Literal["none", "sasl"] | None,
        typer.Option(help="sasl: Kafka knows each client by a password, and lets it do what its role needs."),
    ] = None,
    json: Json = False,
) -> None:
    """Start every server and wait until each answers in its own protocol. Twice is harmless.

    What was chosen at the first start is kept in the home folder and used again; what is given now changes it.
    """
    from stack.servers.lifecycle import check_same
    from stack.servers.settings import ServerPorts, chosen, differences, is_started, load
    from stack.servers.status import read_status
    from trading.errors import ConfigurationError

    settings = chosen(brokers=brokers, model_repository=model_repository, kafka_security=kafka_security)
    home = settings.absolute_home
    if settings.brokers == 2:
        raise ConfigurationError("--brokers 2 cannot lose one: use 1, or 3")
    running = read_status(home)
    if running is not None and running.alive:
        check_same(settings, load(home))
    elif ports is not None:
        made = ServerPorts.automatic() if ports == "auto" else ServerPorts()
        settings = settings.model_copy(update={"ports": made})
    if is_started(home):
        for change in differences(load(home), settings):
            err.print(f"[yellow]changed:[/] {escape(change)}", soft_wrap=True)
    start(settings, json=json)


def start(settings: StackSettings, *, json: bool = False) -> None:
    """Bring the stack up with live progress, then print the health matrix."""
    from rich.live import Live

    from stack.servers import prometheus
    from stack.servers.lifecycle import up as bring_up

    with Live(console=err, refresh_per_second=8, transient=True) as live:

        def show(status: StackStatus) -> None:
            live.update(matrix(status))

        status = bring_up(settings, show)
    if json:
        print_json({"ready": status.ready, "services": status.services})
        return
    out.print(matrix(status))
    if prometheus.program() is None:
        out.print(f"[dim]{prometheus.MISSING}[/]")


def matrix(status: StackStatus) -> Table:
    """The health matrix."""
    rows = [
        [
            s.name,
            state_text(s.state),
            s.version,
            s.endpoint,
            f"{s.memory_mb:.0f}/{s.memory_limit_mb}",
            f"{s.uptime_s:.0f} s",
            str(s.restarts),
            s.last_exit or s.detail[:60],
        ]
        for s in status.services
    ]
    columns = ["service", "state", "version", "endpoint", "MB", "uptime", "restarts", "last exit"]
    if not any(row[-1] for row in rows):
        columns, rows = columns[:-1], [row[:-1] for row in rows]
    return table("", columns, rows, right=(4, 5, 6))


@app.command(epilog="Example: ultrathink stack status --json")
def status(json: Json = False) -> None:
    """The health matrix. Exit code 1 unless every server answers."""
    from stack.servers.settings import load
    from stack.servers.status import read_status

    home = load().absolute_home
    found = read_status(home)
    running = found is not None and found.alive
    if json:
        services, problems = (found.services, found.problems) if found else ([], [])
        print_json({"ready": bool(found and found.ready), "services": services, "problems": problems})
    elif found is None:
        out.print(f"nothing runs in {home}: start it with `ultrathink stack up`")
    else:
        out.print(matrix(found))
        if not running:
            out.print("[red]the supervisor is gone: `ultrathink stack up` starts anew[/]")
        elif not found.fresh:
            out.print("[red]the supervisor has told nothing for long: this is how it was; is its disk full?[/]")
        for problem in found.problems:
            out.print(f"[red]{escape(problem)}[/]", soft_wrap=True)
    if not (found is not None and found.ready):
        raise typer.Exit(1)


@app.command(epilog="Example: ultrathink stack logs triton --lines 100")
def logs(
    service: Annotated[str, typer.Argument(help="A name of `stack status`, or supervisor.")],
    lines: Annotated[int, typer.Option(min=1)] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f")] = False,
) -> None:
    """Print the end of a server's log."""
    from stack.servers.log_files import tail
    from stack.servers.settings import load
    from stack.servers.status import log_path
    from trading.errors import ConfigurationError

    path = log_path(load().absolute_home, service)
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in path.parent.glob("*.log"))) or "none yet"
        raise ConfigurationError(f"no log of {service!r} in {path.parent}; there are: {known}")
    if follow:
        os.execvp("tail", ["tail", "-n", str(lines), "-F", str(path)])  # noqa: S606 - it replaces this process
    for line in tail(path, lines):
        out.print(line, markup=False, soft_wrap=True)


@app.command(epilog="Example: ultrathink stack down --purge")
def down(
    purge: Annotated[bool, typer.Option(help="Delete what a stack made in this home folder too.")] = False,
) -> None:
    """End what `up` started, and nothing else. Data is kept unless --purge."""
    from stack.servers.lifecycle import delete_data
    from stack.servers.lifecycle import down as bring_down
    from stack.servers.settings import load

    home = load().absolute_home
    ran = bring_down(home)
    out.print("stopped" if ran else "nothing was running")
    if purge:
        left = delete_data(home)
        out.print(f"what a stack made in {home} is deleted" + (f"; left: {', '.join(left)}" if left else ""))
