"""What lies in a dataset's folder, and where it came from: manifest.json."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
from msgspec import Struct

from trading.errors import ConfigurationError
from trading.features.definitions import FEATURE_VERSION, FEATURES

FORMAT = 1
NAME = "manifest.json"


class SourceSpan(Struct, frozen=True):
    """A source that was read: its ticks, first and last event time (ns), lines that were no ticks and why."""

    spec: str
    ticks: int
    first_ns: int
    last_ns: int
    dropped: int
    dropped_first: tuple[str, ...]


class SymbolSpan(Struct, frozen=True):
    """A symbol's ticks and rows, its first and last tick (ns), and its gaps.

    Attributes:
        gaps: spans without a tick of more than GAP_FACTOR times its mean.
        longest_gap_ns: of all.
        late: ticks whose event time stepped back; they count at the newest time seen.
    """

    name: str
    ticks: int
    rows: int
    first_ns: int
    last_ns: int
    gaps: int
    longest_gap_ns: int
    late: int


class DataFile(Struct, frozen=True):
    """A Parquet file of the dataset."""

    name: str
    rows: int
    sha256: str


class Manifest(Struct, frozen=True):
    """Of a dataset.

    Attributes:
        format: of the folder.
        feature_version: of the kernel that made it; `features` are its columns in order.
        data_hash: SHA-256 of every tick in order: names the data, whatever is done with it.
        dataset_hash: SHA-256 over the files' hashes: names the rows.
        bars: which ticks are rows.
        horizon_ns, up, down: of the triple barrier.
        ticks, rows, labelled: counted.
        left_out: ticks that are no rows, and rows without a label, by reason.
        sized: whether any trade told its size; without, volumes are unknown.
        first_ns, last_ns: of the rows.
        created: UTC, ISO 8601.
        code: git commit, or "unknown".
    """

    format: int
    feature_version: int
    features: tuple[str, ...]
    data_hash: str
    dataset_hash: str
    bars: str
    horizon_ns: int
    up: float
    down: float
    ticks: int
    rows: int
    labelled: int
    left_out: dict[str, int]
    sized: bool
    first_ns: int
    last_ns: int
    sources: tuple[SourceSpan, ...]
    symbols: tuple[SymbolSpan, ...]
    files: tuple[DataFile, ...]
    created: str
    code: str

    @property
    def named(self) -> str:
        """The sources as one text."""
        return ", ".join(source.spec for source in self.sources)


def read(folder: Path) -> Manifest:
    """The manifest of a dataset that this code can train on.

    Raises:
        ConfigurationError: there is none, or it is of another format or feature version.
    """
    path = folder / NAME
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    except FileNotFoundError as error:
        raise ConfigurationError(
            f"{folder} holds no dataset ({NAME} is missing); `ultrathink data build SOURCE --out DIR` makes one"
        ) from error
    except (OSError, msgspec.DecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from error
    if manifest.format != FORMAT:
        raise ConfigurationError(f"{folder} is a dataset of format {manifest.format}, not {FORMAT}: build it again")
    if manifest.feature_version != FEATURE_VERSION or manifest.features != FEATURES:
        raise ConfigurationError(
            f"{folder} was built with feature version {manifest.feature_version}, this code has {FEATURE_VERSION}: "
            f"build it again with `ultrathink data build {manifest.named} --out {folder}`"
        )
    return manifest


def file_hash(path: Path) -> str:
    """SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
