"""A dataset as arrays: checked when it is opened, mapped from disk when it is larger than memory."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from msgspec import Struct

from trading.arrays import Float32Array, FloatArray, Int64Array
from trading.errors import ConfigurationError
from trading.features.definitions import FEATURES
from trading.market import ASK, BID, MID
from trainers.data import manifest as manifests
from trainers.data.column_spool import BAR, MARKET
from trainers.data.labels import Labels
from trainers.data.manifest import Manifest
from trainers.data.parquet_rows import GROUP_ROWS
from trainers.memory_budget import usable_bytes

#: Of the memory that is free: a larger dataset is mapped.
MEMORY_SHARE = 0.25
COLUMNS = (
    "symbol", "event_time_ns", "quote_time_ns", *FEATURES, *MARKET, *BAR, "label_side", "label_return",
    "label_deviation", "label_end_ns", "label_uniqueness", "label_valid", "next_log_return",
)  # fmt: skip


class Dataset(Struct, frozen=True):
    """n rows in order of time; those of one time in order of arrival.

    Attributes:
        manifest: where they came from.
        features: float32 [n, 32].
        symbols: int64 [n], index into `names`.
        time_ns, quote_time_ns: int64 [n], event times of the tick and of its standing quote.
        market: float64 [n, 4]: standing bid, ask, latest trade, mid; NaN is unknown.
        volume: float64 [n], units traded since the symbol's row before.
        labels: of the rows.
        names: symbols by index.
    """

    manifest: Manifest
    features: Float32Array
    symbols: Int64Array
    time_ns: Int64Array
    quote_time_ns: Int64Array
    market: FloatArray
    volume: FloatArray
    labels: Labels
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.time_ns)

    def column(self, name: str) -> FloatArray:
        """One feature, float64 [n]."""
        return self.features[:, FEATURES.index(name)].astype(np.float64)

    @property
    def log_mid(self) -> FloatArray:
        """float64 [n]."""
        found: FloatArray = np.log(self.market[:, MID])
        return found

    @property
    def half_spread(self) -> FloatArray:
        """float64 [n], relative to the mid; NaN where the source has no quotes."""
        found: FloatArray = 0.5 * (self.market[:, ASK] - self.market[:, BID]) / self.market[:, MID]
        return found


def open_dataset(folder: Path, progress: Callable[[str, int], None] = lambda _, __: None) -> Dataset:
    """Read a dataset that `build` wrote.

    Args:
        folder: of the dataset.
        progress: called with a stage and the rows read so far.

    Raises:
        ConfigurationError: it is of another version, changed since it was built, or holds what is no row.
    """
    manifest = manifests.read(folder)
    # What a file says is not used as a path: a name is looked up among those that are there.
    there = {path.name: path for path in folder.iterdir() if path.is_file()}
    for file in manifest.files:
        path = folder / file.name
        if file.name not in there:
            raise ConfigurationError(f"{path} is missing: the dataset is not whole, build it again")
        if manifests.file_hash(path) != file.sha256:
            raise ConfigurationError(f"{path} is not what the manifest says: it was changed, build it again")
    room = room_maker(folder, manifest.rows)
    n = manifest.rows
    features, market = room((n, len(FEATURES)), np.float32), room((n, len(MARKET)), np.float64)
    whole = {name: room((n,), dtype) for name, dtype in PLAIN.items()}
    names = tuple(symbol.name for symbol in manifest.symbols)
    at = 0
    for file in manifest.files:
        with pq.ParquetFile(folder / file.name) as parquet:
            check_columns(folder / file.name, parquet.schema_arrow.names)
            for batch in parquet.iter_batches(batch_size=GROUP_ROWS):
                rows = slice(at, at + len(batch))
                fill(batch, features[rows], market[rows], {k: v[rows] for k, v in whole.items()}, names)
                at += len(batch)
                progress("open", at)
    check_values(folder, features, whole)
    features, market = in_order(whole, features, market)
    labels = Labels(
        side=whole["label_side"], realised=whole["label_return"], deviation=whole["label_deviation"],
        end_ns=whole["label_end_ns"], valid=whole["label_valid"], next_log_return=whole["next_log_return"],
        has_next=whole["label_valid"], uniqueness=whole["label_uniqueness"],
    )  # fmt: skip
    return Dataset(
        manifest, features, whole["symbol"], whole["event_time_ns"], whole["quote_time_ns"], market,
        whole["bar_volume"], labels, names,
    )  # fmt: skip


def in_order(plain: dict[str, Any], features: Any, market: Any) -> tuple[Any, Any]:
    """Order rows by time: of a file that has one symbol behind another, and where a symbol's clock is ahead."""
    time_ns = plain["event_time_ns"]
    if (time_ns[1:] >= time_ns[:-1]).all():
        return features, market
    order = np.argsort(time_ns, kind="stable")
    for name, values in plain.items():
        plain[name] = values[order]
    return features[order], market[order]


#: Columns that stand by themselves.
PLAIN: dict[str, Any] = {
    "symbol": np.int64, "event_time_ns": np.int64, "quote_time_ns": np.int64, "bar_volume": np.float64,
    "label_side": np.int8, "label_return": np.float64, "label_deviation": np.float64, "label_end_ns": np.int64,
    "label_uniqueness": np.float64, "label_valid": np.bool_, "next_log_return": np.float64,
}  # fmt: skip


def room_maker(folder: Path, rows: int) -> Callable[[tuple[int, ...], Any], Any]:
    """Makes arrays: in memory where all of the rows fit well, else in files that vanish with the process."""
    row_bytes = 4 * len(FEATURES) + 8 * (len(MARKET) + len(PLAIN))
    if rows * row_bytes < MEMORY_SHARE * usable_bytes():
        return np.empty

    def mapped(shape: tuple[int, ...], dtype: Any) -> Any:
        with tempfile.TemporaryFile(dir=folder) as file:
            return np.memmap(file, dtype, "w+", shape=shape)

    return mapped


def check_columns(path: Path, found: list[str]) -> None:
    """Raise ConfigurationError where columns are missing or unknown."""
    missing, unknown = sorted(set(COLUMNS) - set(found)), sorted(set(found) - set(COLUMNS))
    if missing or unknown:
        told = [
            f"{what} {', '.join(names)}" for what, names in (("missing", missing), ("unknown", unknown)) if names
        ]
        raise ConfigurationError(f"{path} has other columns than a dataset: {'; '.join(told)}")


def fill(batch: pa.RecordBatch, features: Any, market: Any, plain: dict[str, Any], names: tuple[str, ...]) -> None:
    """Copy a batch's columns into place."""
    for k, name in enumerate(FEATURES):
        features[:, k] = batch.column(name).to_numpy(zero_copy_only=False)
    for k, name in enumerate(MARKET):
        market[:, k] = batch.column(name).to_numpy(zero_copy_only=False)
    for name, into in plain.items():
        column = batch.column(name)
        if name == "symbol":
            places = {symbol: k for k, symbol in enumerate(names)}
            into[:] = [places[symbol] for symbol in column.to_pylist()]
        else:
            into[:] = column.to_numpy(zero_copy_only=False)


def check_values(folder: Path, features: Any, plain: dict[str, Any]) -> None:
    """Raise ConfigurationError where a value is none."""
    for begin in range(0, len(features), 1_000_000):
        broken = ~np.isfinite(features[begin : begin + 1_000_000])
        if broken.any():
            row, column = np.argwhere(broken)[0].tolist()
            raise ConfigurationError(
                f"{folder}: feature {FEATURES[column]} of row {begin + row:,} is not finite: build it again"
            )
    for name in ("label_return", "label_deviation", "next_log_return", "label_uniqueness"):
        broken = ~np.isfinite(plain[name])
        if broken.any():
            raise ConfigurationError(f"{folder}: {name} of row {int(broken.argmax()):,} is not finite")
