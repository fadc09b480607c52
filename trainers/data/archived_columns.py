"""Ticks of an archive by column, with the features that the desk saw of them: what it decided by, not what would be
computed of a window that begins later.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import Struct

from trading.arrays import BoolArray, Float32Array, FloatArray, Int64Array
from trading.errors import SourceError
from trading.features.definitions import FEATURES
from trading.history.archive import (
    QUOTED,
    ArchiveFile,
    ArchiveHead,
    Between,
    check_file,
    files_by_day,
    read_head,
    show_offsets,
)
from trading.history.source import LivedBatch
from trading.market import TickBatch

COLUMNS = ("partition", "record_offset", "symbol", "event_time_ns", "appended_ns", *QUOTED, "warm", *FEATURES)


class ArchivedColumns(Struct, frozen=True):
    """n ticks in the order in which the broker took them.

    Attributes:
        symbols: of each.
        partition, offset: int64 [n], where it lay in the log.
        event_time_ns, appended_ns: int64 [n], as its producer and as the broker dated it.
        quotes: float64 [n, 6], see `TickBatch`.
        features: float32 [n, 32], as the desk saw them; of what is not warm they mean nothing.
        warm: bool [n].
    """

    symbols: tuple[str, ...]
    partition: Int64Array
    offset: Int64Array
    event_time_ns: Int64Array
    appended_ns: Int64Array
    quotes: FloatArray
    features: Float32Array
    warm: BoolArray

    def __len__(self) -> int:
        return len(self.symbols)

    def taken(self, places: Int64Array) -> ArchivedColumns:
        """Those at these places, in their order."""
        return ArchivedColumns(
            tuple(self.symbols[k] for k in places.tolist()), self.partition[places], self.offset[places],
            self.event_time_ns[places], self.appended_ns[places], self.quotes[places], self.features[places],
            self.warm[places],
        )  # fmt: skip

    def batch(self, begin: int, end: int) -> LivedBatch:
        """Some of them, as a build takes them."""
        ticks = TickBatch(self.symbols[begin:end], self.event_time_ns[begin:end], self.quotes[begin:end])
        return LivedBatch(ticks, self.features[begin:end], self.warm[begin:end])


def read_columns(
    folder: Path, between: Between, progress: Callable[[int, int], None] = lambda _, __: None
) -> ArchivedColumns:
    """The ticks between these offsets; of partitions that `between` ends nowhere, none.

    Args:
        folder: of the archive.
        between: offsets by partition: the same ticks whenever they are read.
        progress: called with the files that were read, and how many there are.

    Raises:
        SourceError: the archive is damaged, or does not reach so far.
    """
    files = [one for found in files_by_day(folder).values() for one in found if one.partition in between.stop]
    wanted = [one for one in files if between.touches(one)]
    parts = []
    for k, file in enumerate(wanted):
        parts.append(of_file(folder, file, between))
        progress(k + 1, len(wanted))
    found = joined(parts)
    check_whole(folder, found, between)
    return found


def of_file(folder: Path, file: ArchiveFile, between: Between) -> dict[str, Any]:
    """Columns of a file's rows between the offsets. Raises SourceError."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    check_file(folder, file)
    try:
        table = pq.read_table(folder / file.path, columns=list(COLUMNS))
    except (pa.ArrowException, OSError) as error:
        raise SourceError(f"{folder / file.path} cannot be read: {error}") from None
    offset = table.column("record_offset").to_numpy()
    inside = offset >= between.start.get(file.partition, 0)
    inside &= offset < between.stop[file.partition]
    table = table.filter(pa.array(inside))

    def column(name: str, dtype: Any) -> Any:
        return table.column(name).to_numpy().astype(dtype, copy=False)

    quotes = np.empty((table.num_rows, len(QUOTED)))
    features = np.empty((table.num_rows, len(FEATURES)), np.float32)
    for k, name in enumerate(QUOTED):
        quotes[:, k] = column(name, np.float64)
    for k, name in enumerate(FEATURES):
        features[:, k] = column(name, np.float32)
    return {
        "symbols": table.column("symbol").to_pylist(), "partition": column("partition", np.int64),
        "offset": column("record_offset", np.int64), "event_time_ns": column("event_time_ns", np.int64),
        "appended_ns": column("appended_ns", np.int64), "quotes": quotes, "features": features,
        "warm": column("warm", np.bool_),
    }  # fmt: skip


def joined(parts: list[dict[str, Any]]) -> ArchivedColumns:
    """All of them, in the order in which the broker took them."""
    empty = {
        "partition": np.zeros(0, np.int64), "offset": np.zeros(0, np.int64), "event_time_ns": np.zeros(0, np.int64),
        "appended_ns": np.zeros(0, np.int64), "quotes": np.zeros((0, len(QUOTED))),
        "features": np.zeros((0, len(FEATURES)), np.float32), "warm": np.zeros(0, np.bool_),
    }  # fmt: skip
    arrays = {name: np.concatenate([none, *(part[name] for part in parts)]) for name, none in empty.items()}
    symbols = [symbol for part in parts for symbol in part["symbols"]]
    whole = ArchivedColumns(symbols=tuple(symbols), **arrays)
    return whole.taken(np.lexsort((whole.offset, whole.partition, whole.appended_ns)))


def check_whole(folder: Path, found: ArchivedColumns, between: Between) -> None:
    """Raise SourceError where a tick lies there twice, or some are not there yet: it must be the log, once."""
    head = read_head(folder)
    for partition, stop in between.stop.items():
        reached = 0 if head is None or partition not in head.partitions else head.partitions[partition].next_offset
        if reached < stop:
            raise SourceError(f"{folder} reaches offset {reached} of partition {partition}, and {stop} is asked")
    places = np.stack([found.partition, found.offset], axis=1) if len(found) else np.zeros((0, 2), np.int64)
    if len(np.unique(places, axis=0)) != len(places):
        raise SourceError(f"{folder} holds an offset twice before {show_offsets(between.stop)}")


def first_times(folder: Path, partitions: Collection[int]) -> dict[str, int]:
    """The event time, in ns, of the first tick of each symbol of these partitions that the archive has.

    It is the same whenever it is asked, as long as no day of it is deleted. Raises SourceError.
    """
    found: dict[str, int] = {}
    for files in files_by_day(folder).values():
        for one in files:
            if one.partition not in partitions:
                continue
            seen = {one.symbol: one.first_ns} if one.symbol else first_of_several(folder, one)
            for symbol, at in seen.items():
                found[symbol] = min(found.get(symbol, at), at)
    return found


def first_of_several(folder: Path, file: ArchiveFile) -> dict[str, int]:
    """The same of a file of several symbols."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(folder / file.path, columns=["symbol", "state_time_ns"])
        first = table.group_by("symbol").aggregate([("state_time_ns", "min")])
    except (pa.ArrowException, OSError) as error:
        raise SourceError(f"{folder / file.path} cannot be read: {error}") from None
    return dict(zip(first.column("symbol").to_pylist(), first.column("state_time_ns_min").to_pylist(), strict=True))


def offsets_since(folder: Path, at_ns: int) -> dict[int, int]:
    """Of each partition the first offset that the broker took at or after a time; its end where none was.

    Raises SourceError.
    """
    head = head_of(folder)
    found = {partition: one.next_offset for partition, one in head.partitions.items()}
    for name, files in files_by_day(folder).items():
        for one in files if name >= day_of(at_ns) else ():
            if one.first_offset < found[one.partition]:
                offset, appended = places_of(folder, one)
                later = offset[appended >= at_ns]
                if len(later):
                    found[one.partition] = min(found[one.partition], int(later.min()))
    return found


def newest_since(folder: Path, stop: Mapping[int, int], count: int) -> int | None:
    """When the broker took the first of the newest `count` ticks before these offsets, in ns; None where there are
    no more than those.

    Raises SourceError.
    """
    newest, total = np.zeros(0, np.int64), 0
    for _, files in sorted(files_by_day(folder).items(), reverse=True):
        for one in files:
            offset, appended = places_of(folder, one)
            mine = appended[offset < stop.get(one.partition, 0)]
            total += len(mine)
            # No more of a day is held than is asked for.
            newest = np.sort(np.concatenate([newest, mine]))[-count:]
        if total > count:
            break
    return int(newest[0]) if total > count else None


def reached_at(folder: Path, start: Mapping[int, int], stop: Mapping[int, int], count: int) -> int | None:
    """When the broker took the tick behind the first `count` between these offsets, in ns; None where there are no
    more than those.

    Raises SourceError.
    """
    oldest, total = np.zeros(0, np.int64), 0
    for _, files in sorted(files_by_day(folder).items()):
        for one in files:
            begin, end = start.get(one.partition, 0), stop.get(one.partition, 0)
            if one.last_offset < begin or one.first_offset >= end:
                continue
            offset, appended = places_of(folder, one)
            mine = appended[(offset >= begin) & (offset < end)]
            total += len(mine)
            oldest = np.sort(np.concatenate([oldest, mine]))[: count + 1]
        if total > count:
            break
    return int(oldest[count]) if total > count else None


def head_of(folder: Path) -> ArchiveHead:
    """The archive as it is. Raises SourceError where there is none."""
    head = read_head(folder)
    if head is None:
        raise SourceError(f"{folder} holds no archive (no head.json): `ultrathink data serve` writes one")
    return head


def day_of(at_ns: int) -> str:
    """As files name it."""
    return datetime.fromtimestamp(at_ns / 1e9, UTC).strftime("%Y-%m-%d")


def places_of(folder: Path, file: ArchiveFile) -> tuple[Int64Array, Int64Array]:
    """Offsets of a file's rows, and when the broker took them. Raises SourceError."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(folder / file.path, columns=["record_offset", "appended_ns"])
    except (pa.ArrowException, OSError) as error:
        raise SourceError(f"{folder / file.path} cannot be read: {error}") from None
    offset, appended = (table.column(name).to_numpy() for name in ("record_offset", "appended_ns"))
    return offset.astype(np.int64), appended.astype(np.int64)
