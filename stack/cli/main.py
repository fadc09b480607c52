"""`ultrathink`: every command of the project. Imports are made by the command that needs them."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from stack.cli import broker, chaos, data, demo, export, forensics, gateway, loadtest, risk, stack, ticks, train
from stack.cli.output import err
from trading.errors import ConfigurationError, UltraThinkError

OURS = {"trading", "connectors", "gateway", "services", "exporters", "trainers", "loadtest", "stack"}

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Serve trading models: real ticks, real brokers, real model servers, audited decisions.",
)
#: What a command needs beyond what a gateway does: an extra of the package.
ROLES = {
    "stack": "embedded",
    "demo": "all",
    "chaos": "all",
    "data": "trainers",
    "train": "trainers",
    "export": "exporters",
    "risk": "trainers",
    "broker": "services",
    "ticks": "services",
    "forensics": "services",
    "loadtest": "loadtest",
}
for name, group in {
    "stack": stack, "data": data, "train": train, "export": export, "gateway": gateway, "risk": risk,
    "broker": broker, "ticks": ticks, "forensics": forensics, "loadtest": loadtest,
}.items():  # fmt: skip
    app.add_typer(group.app, name=name)
app.command("demo")(demo.demo)
app.command("chaos")(chaos.chaos)


@app.callback()
def root(
    home: Annotated[
        Path | None, typer.Option(help="Folder of the stack's state.", envvar="ULTRATHINK_HOME")
    ] = None,
) -> None:
    """Options before the command hold for every command."""
    if home is not None:
        os.environ["ULTRATHINK_HOME"] = str(home)


def run() -> None:
    """Entry point: an error of ours is a sentence and an exit code (2: fix the input), never a traceback."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        # As Ctrl-C: what was started is ended. A hang-up that nohup ignores stays ignored.
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, interrupt)
    try:
        app()
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
    command = next((word for word in sys.argv[1:] if word in ROLES), None)
    extra = f"[{ROLES[command]}]" if command else ""
    return f"{error.name} is not installed and this command needs it: pip install 'ultrathink-pilot{extra}'"


def failed() -> int:
    """1; but of a load test that is "a target was missed", and what failed otherwise proves nothing: 2."""
    return 2 if "loadtest" in sys.argv[1:] else 1


def interrupt(*_: object) -> None:
    """Unwind as Ctrl-C does."""
    raise KeyboardInterrupt


def tell(message: str) -> None:
    """An error on stderr; its text may hold brackets, which are no markup."""
    err.print(f"[bold red]error:[/] {escape(message)}", soft_wrap=True)
