"""What the commands of data share."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(
    no_args_is_help=True,
    help="Datasets for training, and the data service: ticks, features and decisions over HTTP.",
)
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
