"""What the commands of the trail share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trading.errors import ConfigurationError

if TYPE_CHECKING:
    from services.forensics.keys import Keys
    from services.forensics.settings import ForensicsSettings

app = typer.Typer(
    no_args_is_help=True,
    help="The audit trail: everything that was published, byte for byte, in PostgreSQL or TimescaleDB, and signed.",
)
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
KeyOption = Annotated[
    list[Path] | None, typer.Option("--key", help="Public key in PEM; several may be given. Default: the stack's.")
]
IdArgument = Annotated[str, typer.Argument(help="Topic-partition-offset of the tick.")]


def trusted(settings: ForensicsSettings | None, given: list[Path] | None) -> Keys:
    """Public keys that were named, else those that the settings know. Raises ConfigurationError."""
    from services.forensics.keys import key_id, private_key, public_keys, public_path

    if given or settings is None:
        return public_keys(given or [])
    own = public_path(settings.signing_key)
    known = dict(public_keys([*settings.trusted_keys, *([own] if own.exists() else [])]))
    if not own.exists() and settings.signing_key.exists():
        # Whoever signs need not be handed his own public key.
        public = private_key(settings.signing_key).public_key()
        known[key_id(public)] = public
    if not known:
        raise ConfigurationError(f"{own} is not there: name the public key of the checkpoints with --key")
    return known


def write(path: Path, content: bytes) -> None:
    """A file, whole or not at all. Raises ConfigurationError."""
    from trading.files import replace_file

    try:
        replace_file(path, content)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}") from error
