"""csv:PATH and parquet:PATH - a table with a time column and prices.

Columns, by the first name that is present: time from event_time_ns, timestamp, time, datetime or
date (ISO 8601, or a number of s, ms, us or ns told by its size); `symbol`, else ?symbol=NAME, else the
file's name; bid, ask, bid_size, ask_size; last from last, price or close; last_size from
last_size, size or volume.
"""

from __future__ import annotations

import csv
import gzip
import math
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from trading.arrays import Int64Array
from trading.encoding import END
from trading.errors import SourceError
from trading.history.source import Dropped, Record, Source, existing
from trading.market import (
    MAX_PRICE,
    MAX_SIZE,
    MAX_SYMBOL_LENGTH,
    MAX_TIME_NS,
    MIN_PRICE,
    SYMBOL_PATTERN,
    Tick,
    TickBatch,
)

SYMBOL = re.compile(rf"(?=.{{1,{MAX_SYMBOL_LENGTH}}}{END}){SYMBOL_PATTERN}")
TIME_COLUMNS = ("event_time_ns", "timestamp", "time", "datetime", "date")
VALUE_COLUMNS: dict[str, tuple[str, ...]] = {
    "bid": ("bid",),
    "ask": ("ask",),
    "bid_size": ("bid_size",),
    "ask_size": ("ask_size",),
    "last": ("last", "price", "close"),
    "last_size": ("last_size", "size", "volume"),
}


def open_csv(spec: str, path: str, options: dict[str, str]) -> Source:
    """Raises SourceError for a missing file or another suffix."""
    file = existing(path, (".csv", ".csv.gz"), "a CSV file with a header, csv:PATH")
    symbol = options.pop("symbol", default_symbol(file))
    return Source(spec, lambda dropped: read_csv(file, symbol, dropped))


def open_parquet(spec: str, path: str, options: dict[str, str]) -> Source:
    """Raises SourceError for a missing file or another suffix."""
    file = existing(path, (".parquet",), "a Parquet file, parquet:PATH")
    symbol = options.pop("symbol", default_symbol(file))
    return Source(
        spec,
        lambda dropped: read_parquet(file, symbol, dropped),
        lambda dropped, size: read_parquet_batches(file, symbol, dropped, size),
    )


def default_symbol(path: Path) -> str:
    """The file's name up to its first dot, at most 32 characters."""
    return path.name.split(".")[0].upper()[:32]


def read_csv(path: Path, symbol: str, dropped: Dropped) -> Iterator[Record]:
    """Ticks in file order; line numbers count the header."""
    opener: Callable[..., Any] = gzip.open if path.name.endswith(".gz") else open
    try:
        with opener(path, "rt", encoding="utf-8", newline="") as file:
            lines = csv.DictReader(file)
            columns = find_columns(path, [c.strip().lower() for c in lines.fieldnames or ()])
            lines.fieldnames = [c.strip().lower() for c in lines.fieldnames or ()]
            for number, line in enumerate(lines, 2):
                yield from to_record(line, columns, symbol, number, dropped)
    except (UnicodeDecodeError, gzip.BadGzipFile, EOFError, csv.Error) as error:
        raise SourceError(f"{path} is no CSV text: {error}") from error


def read_parquet(path: Path, symbol: str, dropped: Dropped) -> Iterator[Record]:
    """Ticks in file order, a batch of rows in memory at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            columns = find_columns(path, [c.lower() for c in file.schema_arrow.names])
            number = 0
            for batch in file.iter_batches(batch_size=16_384):
                for row in batch.to_pylist():
                    number += 1
                    lowered = {str(k).lower(): v for k, v in row.items()}
                    yield from to_record(lowered, columns, symbol, number, dropped)
    except pa.ArrowInvalid as error:
        raise SourceError(f"{path} is no Parquet file: {error}") from error


def read_parquet_batches(path: Path, symbol: str, dropped: Dropped, size: int) -> Iterator[TickBatch]:
    """As `read_parquet`, by column: a batch with a row that is no tick is read by row, for its reason."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            columns = find_columns(path, [c.lower() for c in file.schema_arrow.names])
            number = 0
            for batch in file.iter_batches(batch_size=size):
                lowered = batch.rename_columns([c.lower() for c in batch.schema.names])
                ticks = columnar(lowered, columns, symbol)
                if ticks is None:
                    rows = enumerate(lowered.to_pylist(), number + 1)
                    good = [r.tick for k, row in rows for r in to_record(row, columns, symbol, k, dropped)]
                    ticks = TickBatch.from_ticks(good)
                number += len(batch)
                if len(ticks):
                    yield ticks
    except pa.ArrowInvalid as error:
        raise SourceError(f"{path} is no Parquet file: {error}") from error


def columnar(batch: Any, columns: dict[str, str], symbol: str) -> TickBatch | None:
    """The rows of an Arrow batch as ticks; None where one of them, or a column's type, wants a closer look."""
    import pyarrow as pa

    n = len(batch)
    time = batch.column(columns["time"])
    if time.null_count or not (pa.types.is_timestamp(time.type) or pa.types.is_integer(time.type)):
        return None
    if pa.types.is_timestamp(time.type):
        time_ns = time.cast(pa.timestamp("ns"), safe=False).cast(pa.int64()).to_numpy(zero_copy_only=False)
    else:
        time_ns = scaled_to_ns(time.cast(pa.int64()).to_numpy(zero_copy_only=False))
    quotes = np.full((n, len(VALUE_COLUMNS)), np.nan)
    for k, field in enumerate(VALUE_COLUMNS):
        if field in columns:
            values = batch.column(columns[field])
            if not (pa.types.is_floating(values.type) or pa.types.is_integer(values.type)):
                return None
            quotes[:, k] = values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    symbols = batch.column(columns["symbol"]).to_pylist() if "symbol" in columns else [symbol] * n
    if not all(isinstance(name, str) for name in set(symbols)):
        return None
    ticks = TickBatch(tuple(symbols), np.ascontiguousarray(time_ns, np.int64), quotes)
    return ticks if are_ticks(ticks) else None


def are_ticks(batch: TickBatch) -> bool:
    """Whether every row is within what `Tick` allows; NaN is unknown."""
    if not len(batch):
        return True
    prices, sizes = batch.quotes[:, [0, 1, 4]], batch.quotes[:, [2, 3, 5]]
    within = np.isnan(prices) | ((prices >= MIN_PRICE) & (prices < MAX_PRICE))
    fits = np.isnan(sizes) | ((sizes >= 0.0) & (sizes < MAX_SIZE))
    dated = (batch.event_time_ns > 0) & (batch.event_time_ns < MAX_TIME_NS)
    named = all(SYMBOL.fullmatch(name) for name in set(batch.symbols))
    return bool(within.all() and fits.all() and dated.all() and named)


def scaled_to_ns(values: Int64Array) -> Int64Array:
    """Whole numbers of s, ms, us or ns, told by their size, as ns."""
    found = values.copy()
    for scale, below, least in ((1_000_000_000, 1e11, 0), (1_000_000, 1e14, 1e11), (1_000, 1e17, 1e14)):
        mine = (values < below) & (values >= least)
        found[mine] = values[mine] * scale
    return found


def find_columns(path: Path, present: list[str]) -> dict[str, str]:
    """Tick field -> column. Raises SourceError when there is no time or no price."""
    columns = {"time": next((c for c in TIME_COLUMNS if c in present), "")}
    for field, names in VALUE_COLUMNS.items():
        name = next((c for c in names if c in present), None)
        if name is not None:
            columns[field] = name
    if not columns["time"]:
        raise SourceError(f"{path}: no time column; expected one of {TIME_COLUMNS}, found {present}")
    if not ("last" in columns or {"bid", "ask"} <= columns.keys()):
        raise SourceError(f"{path}: no price column; expected bid and ask, or last, price or close")
    if "symbol" in present:
        columns["symbol"] = "symbol"
    return columns


def to_record(
    row: Mapping[str, Any], columns: dict[str, str], symbol: str, number: int, dropped: Dropped
) -> Iterator[Record]:
    """The row's tick, or nothing and a note in `dropped`."""
    try:
        time_ns = to_ns(row[columns["time"]])
        values = {f: to_float(row[columns[f]]) for f in VALUE_COLUMNS if f in columns}
        name = row[columns["symbol"]] if "symbol" in columns else symbol
        # convert, not the constructor: it checks what the live decoder would check.
        tick = msgspec.convert({"symbol": name, "event_time_ns": time_ns, **values}, Tick)
    except (ValueError, TypeError, OverflowError, msgspec.ValidationError) as error:
        dropped.add(number, str(error))
        return
    yield Record(time_ns, tick)


def to_float(value: Any) -> float | None:
    """A number; None for an empty cell or NaN."""
    if value is None or value == "":
        return None
    number = float(value)
    return None if math.isnan(number) else number


def to_ns(value: Any) -> int:
    """Nanoseconds since 1970 UTC. A time without a zone is UTC; a bare number's unit goes by its size."""
    if isinstance(value, str):
        try:
            value = float(value) if "." in value else int(value)
        except ValueError:
            value = datetime.fromisoformat(value)
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day, tzinfo=UTC)
    if isinstance(value, datetime):
        aware = value if value.tzinfo else value.replace(tzinfo=UTC)
        delta = aware - datetime(1970, 1, 1, tzinfo=UTC)
        return (delta.days * 86_400 + delta.seconds) * 1_000_000_000 + delta.microseconds * 1_000
    if isinstance(value, int | float):
        for scale, limit in ((1_000_000_000, 1e11), (1_000_000, 1e14), (1_000, 1e17)):
            if value < limit:
                return round(value * scale)
        return int(value)
    raise ValueError(f"{value!r} is no time")
