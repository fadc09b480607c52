"""Where a run stands, kept in a file: whole or not there, of this version and log, or begun anew."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec
import structlog
from msgspec import Struct

from services.experiments.desk_run import DeskDump
from services.experiments.running import RunDump
from trading.encoding import Records, encode
from trading.errors import BadRecord, ConfigurationError
from trading.experiments.definition import ExperimentDefinition
from trading.features.definitions import FEATURE_VERSION
from trading.files import replace_file
from trading.portfolio.book import LAYOUT

log = structlog.get_logger()
FORMAT, DIGEST_BYTES = 2, 16
T = TypeVar("T")


class Checkpoint(Struct, Generic[T], frozen=True, array_like=True):
    """What the file holds.

    Attributes:
        format, features, layout: of the version that wrote it.
        log: names the very logs that were read.
        experiment: digest of the definition.
        started: offset of the command that it was started by.
        run: as it stood.
    """

    format: int
    features: int
    layout: str
    log: str
    experiment: bytes
    started: int
    run: T


class Kept(Generic[T]):
    """One kind of what is kept of an experiment."""

    def __init__(self, suffix: str, kind: type[T]) -> None:
        """Args:
        suffix: of the file, behind an experiment's name, which holds neither `@` nor a separator of folders.
        kind: of the run.
        """
        self.suffix = suffix
        whole: Any = Checkpoint[kind]  # type: ignore[valid-type]
        self._records: Records[Checkpoint[T]] = Records(whole, packed=True)

    def read(self, content: bytes) -> Checkpoint[T]:
        """Raises BadRecord."""
        return self._records.read(content)


SHADOW, DESK = Kept("@shadow.checkpoint", RunDump), Kept("@desk.checkpoint", DeskDump)
_encode = msgspec.msgpack.Encoder().encode


def read_newest(folder: Path, experiment: ExperimentDefinition, kind: Kept[T]) -> Checkpoint[T] | None:
    """What was kept last of an experiment, whatever it was started by; None where nothing can be read."""
    try:
        found = _read(folder / f"{experiment.name}{kind.suffix}", kind)
    except FileNotFoundError:
        return None
    is_of_it = found is not None and (found.format, found.experiment) == (FORMAT, digest(encode(experiment)))
    return found if is_of_it else None


def _read(path: Path, kind: Kept[T]) -> Checkpoint[T] | None:
    """A checkpoint; None, and a line in the log, for what is none. Raises FileNotFoundError."""
    try:
        whole = path.read_bytes()
        content = whole[DIGEST_BYTES:]
        if digest(content) == whole[:DIGEST_BYTES]:
            return kind.read(content)
        why = "it was cut short or changed"
    except FileNotFoundError:
        raise
    except OSError as error:
        why = f"it cannot be read: {error.strerror}"
    except BadRecord as error:
        why = f"it is of another version: {error}"
    log.warning("a checkpoint is left aside", file=str(path), reason=why)
    return None


class CheckpointStore(Generic[T]):
    """Files of one folder and kind, one an experiment."""

    def __init__(self, folder: Path, log_name: str, kind: Kept[T]) -> None:
        """Make the folder.

        Args:
            folder: of this process alone.
            log_name: names the logs that are read.
            kind: of what is kept.

        Raises:
            ConfigurationError: it cannot be made, or written into.
        """
        self._folder, self._log, self._kind = folder, log_name, kind
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            # Now, and not when there is something to keep.
            replace_file(folder / ".written", b"", mode=0o600, durable=False)
        except OSError as error:
            raise ConfigurationError(
                f"nothing can be written into {folder} ({error.strerror}): ULTRATHINK_EXPERIMENTS_FOLDER names "
                "another"
            ) from error

    def keep(self, experiment: ExperimentDefinition, started: int, run: T) -> None:
        """Keep where a run stands. Raises OSError; what was kept before is then kept still."""
        content = _encode(
            Checkpoint(FORMAT, FEATURE_VERSION, LAYOUT, self._log, digest(encode(experiment)), started, run)
        )
        replace_file(self._path(experiment), digest(content) + content, mode=0o600, durable=False)

    def kept(self, experiment: ExperimentDefinition, started: int) -> T | None:
        """Where it stood; None where nothing is known of it, and it begins anew."""
        path = self._path(experiment)
        try:
            found = _read(path, self._kind)
        except FileNotFoundError:
            return None
        if found is None:
            return None
        wanted = (FORMAT, FEATURE_VERSION, LAYOUT, self._log, digest(encode(experiment)), started)
        if (found.format, found.features, found.layout, found.log, found.experiment, found.started) != wanted:
            log.warning("a checkpoint is left aside", file=str(path), reason="of another version, log or start")
            return None
        return found.run

    def _path(self, experiment: ExperimentDefinition) -> Path:
        return self._folder / f"{experiment.name}{self._kind.suffix}"


def digest(content: bytes) -> bytes:
    """Finds accidents."""
    return hashlib.blake2b(content, digest_size=DIGEST_BYTES).digest()
