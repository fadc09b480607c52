"""What the commands of the trail share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trading.errors import ConfigurationError

app = typer.Typer(
    no_args_is_help=True,
    help="The audit trail: everything that was published, byte for byte, in PostgreSQL or TimescaleDB, and signed.",
)
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
KeyOption = Annotated[
    list[Path] | None, typer.Option("--key", help="Public key in PEM; several may be given. Default: the stack's.")
]
IdArgument = Annotated[str, typer.Argument(help="Topic-partition-offset of the tick.")]


def write(path: Path, content: bytes) -> None:
    """A file, whole or not at all. Raises ConfigurationError."""
    from trading.files import replace_file

    try:
        replace_file(path, content)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}") from error
