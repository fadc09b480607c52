"""`ultrathink`: every command of the project. Imports are made by the command that needs them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import click
import typer

from gateway.domain.errors import ConfigurationError, UltraThinkError
from stack.cli import demo, export, gateway, stack, ticks, train
from stack.cli.output import err

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Serve trading models: real ticks, real brokers, real model servers, audited decisions.",
)
app.add_typer(stack.app, name="stack")
app.add_typer(train.app, name="train")
app.add_typer(export.app, name="export")
app.add_typer(gateway.app, name="gateway")
app.add_typer(ticks.app, name="ticks")
app.command("demo")(demo.demo)


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
    try:
        code = app(standalone_mode=False)
    except UltraThinkError as error:
        err.print(f"[bold red]error:[/] {error}", soft_wrap=True)
        raise SystemExit(2 if isinstance(error, ConfigurationError) else 1) from None
    except click.ClickException as error:
        error.show()
        raise SystemExit(error.exit_code) from None
    except (click.Abort, KeyboardInterrupt):
        err.print("interrupted")
        raise SystemExit(130) from None
    raise SystemExit(code if isinstance(code, int) else 0)
