"""What the commands about risk share: the apps, options, limits."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from stack.cli.output import OWN_PROCESS, err
from trading.errors import ServiceUnavailable

app = typer.Typer(no_args_is_help=True, help="Limits: try them, explain them, change them, prove them.")
limits_app = typer.Typer(no_args_is_help=True, help="The limits in force, and their changes.")
app.add_typer(limits_app, name="limits")

Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
LimitsOption = Annotated[
    Path | None, typer.Option("--limits", help="YAML; default: those in force, else the defaults.")
]
ReasonOption = Annotated[str, typer.Option(help="Recorded with the change.")]


def interpret(context: typer.Context) -> None:
    """Leave the rules to Python: for one order, loading the compiled ones takes far longer than running these.

    To be called before they are imported, for they stay so: only where the process ends with the command. They
    answer the same to the last bit (tests/unit/stack/cli/test_interpreted.py).
    """
    if context.obj == OWN_PROCESS:
        os.environ["NUMBA_DISABLE_JIT"] = "1"


def in_force(path: Path | None) -> tuple[Any, str]:
    """A file's limits, or those of the control topic, or the defaults; and which.

    Raises ConfigurationError where those in force are not understood: they are not the defaults.
    """
    from stack.cli.gateway import control
    from stack.servers.settings import is_started, load
    from trading.risk import limits_file
    from trading.risk.limits import LimitsFile

    if path is not None:
        return limits_file.read(path), str(path)
    if not is_started(load().absolute_home) and "ULTRATHINK_GATEWAY_KAFKA_BOOTSTRAP" not in os.environ:
        return LimitsFile(), "the defaults: there is no stack here"
    try:
        found = control().limits()
    except ServiceUnavailable as error:
        err.print(
            f"[yellow]no stack answers, so these are the default limits[/] ({escape(str(error)[:100])})",
            soft_wrap=True,
        )
        return LimitsFile(), "the defaults"
    if found is None:
        return LimitsFile(), "the defaults: nobody has set any"
    return found[1], f"in force, set by {found[0].by} because {found[0].reason!r}"


def limit_set(path: Path | None, books: int = 1) -> Any:
    """A file's limits, or those in force, for the gateway's account and strategy."""
    return resolved(in_force(path)[0], books)


def resolved(file: Any, books: int = 1) -> Any:
    """Limits for the gateway's account and strategy."""
    from stack.processes.settings import gateway_settings

    return gateway_settings().limit_set(books, file)
