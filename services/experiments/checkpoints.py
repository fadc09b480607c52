"""Where a run stands, kept in a file: whole or not there, of this version and log, or begun anew."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import structlog
from msgspec import Struct

from services.experiments.running import RunDump
from trading.encoding import Records, encode
from trading.errors import BadRecord, ConfigurationError
from trading.experiments.definition import ExperimentDefinition
from trading.features.definitions import FEATURE_VERSION
from trading.files import replace_file
from trading.portfolio.book import LAYOUT

log = structlog.get_logger()
FORMAT, DIGEST_BYTES = 1, 16
#: Behind an experiment's name, which holds no separator of folders.
SUFFIX = ".checkpoint"


class Checkpoint(Struct, frozen=True, array_like=True):
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
    run: RunDump


_encode, _checkpoints = msgspec.msgpack.Encoder().encode, Records(Checkpoint, packed=True)


class CheckpointStore:
    """Files of one folder, one an experiment."""

    def __init__(self, folder: Path, log_name: str) -> None:
        """Make the folder.

        Args:
            folder: of this process alone.
            log_name: names the logs that are read.

        Raises:
            ConfigurationError: it cannot be made.
        """
        self._folder, self._log = folder, log_name
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise ConfigurationError(f"{folder} cannot be made: {error.strerror}") from error

    def keep(self, experiment: ExperimentDefinition, started: int, run: RunDump) -> None:
        """Keep where a run stands. Raises OSError; what was kept before is then kept still."""
        content = _encode(
            Checkpoint(FORMAT, FEATURE_VERSION, LAYOUT, self._log, digest(encode(experiment)), started, run)
        )
        replace_file(self._path(experiment), digest(content) + content, mode=0o600, durable=False)

    def kept(self, experiment: ExperimentDefinition, started: int) -> RunDump | None:
        """Where it stood; None where nothing is known of it, and it begins anew."""
        path = self._path(experiment)
        try:
            whole = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            log.warning("a checkpoint cannot be read", file=str(path), reason=str(error))
            return None
        content = whole[DIGEST_BYTES:]
        if digest(content) != whole[:DIGEST_BYTES]:
            log.warning("a checkpoint is left aside", file=str(path), reason="it was cut short or changed")
            return None
        try:
            found = _checkpoints.read(content)
        except BadRecord as error:
            log.warning("a checkpoint is left aside", file=str(path), reason=f"of another version: {error}")
            return None
        wanted = (FORMAT, FEATURE_VERSION, LAYOUT, self._log, digest(encode(experiment)), started)
        if (found.format, found.features, found.layout, found.log, found.experiment, found.started) != wanted:
            log.warning("a checkpoint is left aside", file=str(path), reason="of another version, log or start")
            return None
        return found.run

    def forget(self, experiment: ExperimentDefinition) -> None:
        """It is not wanted any more."""
        self._path(experiment).unlink(missing_ok=True)

    def _path(self, experiment: ExperimentDefinition) -> Path:
        return self._folder / f"{experiment.name}{SUFFIX}"


def digest(content: bytes) -> bytes:
    """Finds accidents."""
    return hashlib.blake2b(content, digest_size=DIGEST_BYTES).digest()
