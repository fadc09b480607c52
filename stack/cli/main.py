"""`ultrathink`: every command of the project."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from stack.cli.commands import Commands, show_version
from stack.cli.output import OWN_PROCESS, err
from stack.servers.surroundings import settle
from trading.errors import ConfigurationError, UltraThinkError

OURS = {"trading", "connectors", "gateway", "services", "exporters", "trainers", "loadtest", "stack"}

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Serve trading models: real ticks, real brokers, real model servers, audited decisions.",
)
#: Extras of the package that are roles, the smaller first; a command of several names the library's own.
ROLES = ("services", "mlflow", "loadtest", "trainers", "exporters", "orchestrator", "embedded")
#: Commands that are one role's.
ROLE_OF = {
    "stack": "embedded",
    "support-bundle": "embedded",
    "data": "trainers",
    "train": "trainers",
    "export": "exporters",
    "infer": "exporters",
    "experiment": "services",
    "forensics": "services",
    "metrics": "services",
    "orchestrator": "orchestrator",
    "loadtest": "loadtest",
}


@app.callback()
def root(
    version: Annotated[  # noqa: ARG001 - read by its callback
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print the version.")
    ] = False,
    home: Annotated[
        Path | None, typer.Option(help="Folder of the stack's state.", envvar="ULTRATHINK_HOME")
    ] = None,
) -> None:
    """Options before the command hold for every command."""
    if home is not None:
        os.environ["ULTRATHINK_HOME"] = str(home)


def run() -> None:
    """Entry point: an error of ours is a sentence and an exit code (2: fix the input), never a traceback."""
    settle()
    for number in (signal.SIGTERM, signal.SIGHUP):
        # As Ctrl-C: what was started is ended. A hang-up that nohup ignores stays ignored.
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, interrupt)
    try:
        app(obj=OWN_PROCESS)
    except UltraThinkError as error:
        tell(str(error))
        raise SystemExit(2 if isinstance(error, ConfigurationError) else failed()) from None
    except ModuleNotFoundError as error:
        tell(without_role(error))
        raise SystemExit(2) from None
    except OSError as error:
        tell(f"{error.filename or 'a file or connection'}: {error.strerror or error}")
        raise SystemExit(failed()) from None
    except KeyboardInterrupt:
        tell("interrupted")
        raise SystemExit(130) from None


def without_role(error: ModuleNotFoundError) -> str:
    """The extra that brings the library a command did not find; raises it where the fault is ours."""
    if error.name is None or error.name.partition(".")[0] in OURS:
        raise error
    module = error.name.partition(".")[0]
    extra = extra_of(module, {word for word in sys.argv[1:] if word in ROLE_OF})
    way_out = f"the extra {extra!r} brings it" if extra else "the installation is not whole"
    return f"{module} is not installed and this command needs it: {way_out} (README, One role alone)"


def extra_of(module: str, commands: set[str]) -> str | None:
    """The command's own role where that brings the module, else the smallest that does."""
    from importlib.metadata import requires

    declared = requires("ultrathink-pilot") or []
    wanted = module.replace("_", "-")
    lines = [line for line in declared if wanted in line.partition(";")[0]]
    bringing = [role for role in ROLES if any(line.endswith(f"extra == '{role}'") for line in lines)]
    own = [ROLE_OF[command] for command in commands]
    return next((role for role in [*own, *bringing] if role in bringing), own[0] if own else None)


def failed() -> int:
    """1; but of a load test that is "a target was missed", and what failed otherwise proves nothing: 2."""
    return 2 if "loadtest" in sys.argv[1:] else 1


def interrupt(*_: object) -> None:
    """Unwind as Ctrl-C does."""
    raise KeyboardInterrupt


def tell(message: str) -> None:
    """An error on stderr; its text may hold brackets, which are no markup."""
    err.print(f"[bold red]error:[/] {escape(message)}", soft_wrap=True)
