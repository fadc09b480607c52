"""What a backup holds: every file with its hash, every folder, and whose they were."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

from trading.encoding import Records, encode
from trading.errors import BadRecord, ConfigurationError
from trading.files import replace_file

MANIFEST, FORMAT = "manifest.json", 1
#: A stack's settings, and parts of a home folder: what cannot be made again. Logs and metrics are not among them,
#: nor what Triton is started with.
SETTINGS = "stack.json"
PARTS = ("kafka", "redis", "postgres", "mlflow", "trail", "archive", "secrets")
#: The repository that Triton serves, and its exporters' journal, wherever both lie.
MODELS, JOURNAL = "models", "models-journal"
#: The same of what TorchServe serves.
TORCHSERVE_MODELS, TORCHSERVE_JOURNAL = "torchserve-models", "torchserve-journal"
#: What watchers of experiments have counted.
EXPERIMENTS = "experiments"


class File(Struct, frozen=True, forbid_unknown_fields=True):
    """A file: bytes, SHA-256 in hex digits, permissions."""

    size: int
    sha256: str
    mode: int


class Backup(Struct, frozen=True, forbid_unknown_fields=True):
    """The manifest.

    Attributes:
        at: when it was begun, ISO 8601 in UTC.
        version: of this program.
        home: where the desk lived.
        folders: path below the backup -> permissions; those that are empty too.
        files: path below the backup -> what it is; all but the manifest.
    """

    format: int
    at: str
    version: str
    home: str
    folders: dict[str, int]
    files: dict[str, File]

    @property
    def bytes(self) -> int:
        """Of all files."""
        return sum(file.size for file in self.files.values())

    def sizes(self) -> dict[str, int]:
        """Bytes by part."""
        found: dict[str, int] = {}
        for path, file in self.files.items():
            part = path.partition("/")[0]
            found[part] = found.get(part, 0) + file.size
        return found


class Format(Struct, frozen=True):
    """Of any manifest there ever is: which format, and who made it."""

    format: int
    version: str = "a newer one"


_backups, _formats = Records(Backup), Records(Format)


def write(folder: Path, backup: Backup) -> None:
    """Last of all: a folder without it is no backup."""
    replace_file(folder / MANIFEST, encode(backup), mode=0o600)


def read(folder: Path) -> Backup:
    """The manifest of a backup. Raises ConfigurationError for what is none, or of another format."""
    path = folder / MANIFEST
    if not folder.is_dir():
        raise ConfigurationError(
            f"{folder} is no folder: give that of a backup; `ultrathink stack backup FOLDER` makes one"
        )
    try:
        content = path.read_bytes()
        refuse_other(folder, content)
        found = _backups.read(content)
    except FileNotFoundError as error:
        raise ConfigurationError(
            f"{folder} is no backup: {MANIFEST} is missing; `ultrathink stack backup FOLDER` makes one"
        ) from error
    except (OSError, BadRecord) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}; use another backup") from error
    return found


def refuse_other(folder: Path, content: bytes) -> None:
    """Raise ConfigurationError for a manifest of another format, whatever else it holds."""
    try:
        told = _formats.read(content)
    except BadRecord:
        return
    if told.format != FORMAT:
        raise ConfigurationError(
            f"{folder} is a backup of format {told.format}, this version reads {FORMAT}: use the version that made "
            f"it, {told.version}"
        )
