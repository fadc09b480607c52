"""archive:FOLDER - ticks as a desk lived them, written by the data service beside the gateway.

The format, and its reader. FOLDER/head.json names every file that counts; what it does not name does not exist,
so whoever reads sees one moment of the archive, and whoever writes has written nothing until it is replaced.
Files are Parquet: chunks of all symbols of a partition, until they are split into a file a day and symbol. A day
is that of the broker's clock, which runs forward whatever a feed of recorded ticks says.
"""

from __future__ import annotations

import hashlib
import heapq
import resource
from collections.abc import Iterator, Mapping
from operator import itemgetter
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from trading.encoding import END, Count, Int64, Records
from trading.errors import BadRecord, SourceError
from trading.history.source import Dropped, Record, Source
from trading.market import Tick

HEAD = "head.json"
#: As the writer names its files: what is read elsewhere can lead nowhere else.
Place = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_=%-]+(/[A-Za-z0-9_=%-]+){0,2}\.(parquet|json|state)" + END)]
Day = Annotated[str, Meta(pattern=r"^\d{4}-\d{2}-\d{2}" + END)]
Digest = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}" + END)]
#: What a row says of its tick; after these come its 32 features.
TICK_COLUMNS = (
    "partition", "record_offset", "symbol", "event_time_ns", "state_time_ns", "appended_ns", "sent_ns",
    "traceparent", "bid", "ask", "bid_size", "ask_size", "last", "last_size", "warm",
)  # fmt: skip
QUOTED = ("bid", "ask", "bid_size", "ask_size", "last", "last_size")
ROWS = 512


class ArchiveFile(Struct, frozen=True):
    """One Parquet file.

    Attributes:
        path: within the archive.
        sha256: of its bytes.
        day: of the broker's clock.
        partition: of the ticks.
        symbol: of all its rows; "" where it holds several.
        rows: how many.
        first_offset, last_offset: of the ticks.
        first_ns, last_ns: the least and the greatest state time, which never runs backwards within a symbol.
    """

    path: Place
    sha256: Digest
    day: Day
    partition: Count
    symbol: str
    rows: Count
    first_offset: Count
    last_offset: Count
    first_ns: Int64
    last_ns: Int64


class DayManifest(Struct, frozen=True):
    """All files of a day that are of one symbol each."""

    files: list[ArchiveFile]


class ArchiveDay(Struct, frozen=True):
    """A day with files of one symbol each, and where their manifest lies; `whole` where each symbol has one."""

    day: Day
    rows: Count
    manifest: Place
    sha256: Digest
    whole: bool = False


class PartitionHead(Struct, frozen=True):
    """How far a partition is archived.

    Attributes:
        next_offset: of the first tick that is not.
        state: file of the features' state before it.
        sha256: of that file.
        appended_ns: when the broker had taken the last of them; never runs backwards.
        dropped: messages so far that were no ticks.
        lost: messages that were deleted before they were archived.
    """

    next_offset: Count
    state: Place
    sha256: Digest
    appended_ns: Int64 = 0
    dropped: Count = 0
    lost: Count = 0


class ArchiveHead(Struct, frozen=True, tag_field="form", tag="ultrathink-archive/1"):
    """The archive at one moment.

    Attributes:
        number: grows with each.
        topic, topic_id: of the ticks.
        feature_version: of the features' formulas.
        partitions: how far each is archived.
        chunks: files of several symbols each.
        days: files of one symbol each, a manifest a day.
    """

    number: Count
    topic: str
    topic_id: str
    feature_version: int
    partitions: dict[int, PartitionHead]
    chunks: list[ArchiveFile]
    days: list[ArchiveDay]


_heads: Records[ArchiveHead] = Records(ArchiveHead)
_manifests: Records[DayManifest] = Records(DayManifest)


def read_head(folder: Path) -> ArchiveHead | None:
    """The archive as it is now; None where none was begun. Raises SourceError for a damaged one."""
    try:
        return _heads.read((folder / HEAD).read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, BadRecord) as error:
        raise SourceError(f"{folder / HEAD} is no head of an archive: {error}") from None


def checked_bytes(folder: Path, path: str, sha256: str) -> bytes:
    """A file's bytes, which must be what was written. Raises SourceError."""
    try:
        content = (folder / path).read_bytes()
    except OSError as error:
        raise SourceError(f"{folder / path} cannot be read: {error.strerror}") from None
    if hashlib.sha256(content).hexdigest() != sha256:
        raise SourceError(f"{folder / path} is not what was written: it was changed or is damaged")
    return content


def files_of_day(folder: Path, day: ArchiveDay) -> list[ArchiveFile]:
    """Those of one symbol each. Raises SourceError for a manifest that is not what was written."""
    try:
        return _manifests.read(checked_bytes(folder, day.manifest, day.sha256)).files
    except BadRecord as error:
        raise SourceError(f"{folder / day.manifest} is no manifest: {error}") from None


def open_archive(spec: str, path: str, options: dict[str, str]) -> Source:
    """The ticks of all partitions as they came, or of ?symbol=NAME alone.

    ?from=0:500,1:20&until=0:900,1:40 are those of partitions 0 and 1 from these offsets on, and before those: the
    same ticks whenever they are read, however long the archive has grown. Of partitions that are not named all are.

    Raises SourceError where there is no archive, or an option is none.
    """
    folder, symbol = Path(path).expanduser(), options.pop("symbol", "")
    start, stop = (read_offsets(spec, name, options.pop(name, "")) for name in ("from", "until"))
    if not path or read_head(folder) is None:
        raise SourceError(
            f"{folder} holds no archive (no {HEAD}): expected a folder that `ultrathink data serve` wrote"
        )
    between = Between(start, stop)
    return Source(spec, lambda dropped: read_archive(folder, symbol, dropped, between))


class Between(Struct, frozen=True):
    """Offsets by partition: the first that is read, and the one before which reading ends."""

    start: dict[int, int] = {}
    stop: dict[int, int] = {}

    def touches(self, file: ArchiveFile) -> bool:
        """Whether any row of a file may lie there."""
        stop = self.stop.get(file.partition)
        return file.last_offset >= self.start.get(file.partition, 0) and (stop is None or file.first_offset < stop)

    def holds(self, partition: int, offset: int) -> bool:
        """Whether a row lies there."""
        stop = self.stop.get(partition)
        return offset >= self.start.get(partition, 0) and (stop is None or offset < stop)


def read_offsets(spec: str, name: str, text: str) -> dict[int, int]:
    """Offsets of "0:500,1:20", by partition; none of "". Raises SourceError."""
    found = {}
    for pair in text.split(",") if text else ():
        partition, colon, offset = pair.partition(":")
        if not (colon and partition.isascii() and partition.isdigit() and offset.isascii() and offset.isdigit()):
            raise SourceError(f"{spec!r}: {name}={text!r}: expected PARTITION:OFFSET, as 0:500,1:20")
        found[int(partition)] = int(offset)
    return found


def show_offsets(offsets: Mapping[int, int]) -> str:
    """As `read_offsets` reads them."""
    return ",".join(f"{partition}:{offset}" for partition, offset in sorted(offsets.items()))


def read_archive(folder: Path, symbol: str, dropped: Dropped, between: Between) -> Iterator[Record]:
    """Ticks in the order in which the broker took them; of each file some thousand rows are in memory."""
    del dropped  # What was no tick was never archived.
    by_day = {day: [one for one in files if between.touches(one)] for day, files in files_by_day(folder).items()}
    let_open(max((len(files) for files in by_day.values()), default=0))
    for day_name in sorted(by_day):
        files = [one for one in by_day[day_name] if not symbol or one.symbol in {"", symbol}]
        for row in heapq.merge(*(rows_of(folder, one) for one in files), key=itemgetter(0, 1, 2)):
            if between.holds(row[1], row[2]) and (not symbol or row[3]["symbol"] == symbol):
                yield to_record(folder, row[0], row[3])


class ArchivedTick(Struct, frozen=True):
    """A tick where it lay, with its times: by its producer, and by the broker."""

    offset: int
    tick: Tick
    sent_ns: int
    appended_ns: int
    traceparent: bytes | None


def first_offset(folder: Path, partition: int) -> int | None:
    """Of the oldest tick of a partition; None where there is none. Raises SourceError."""
    files = [one for files in files_by_day(folder).values() for one in files if one.partition == partition]
    return min((one.first_offset for one in files), default=None)


def read_partition(folder: Path, partition: int, start: int, stop: int) -> Iterator[ArchivedTick]:
    """The ticks of a partition from offset `start` to before `stop`, in order. Raises SourceError."""
    for _, files in sorted(files_by_day(folder).items()):
        mine = [f for f in files if f.partition == partition and f.last_offset >= start and f.first_offset < stop]
        let_open(len(mine))
        for row in heapq.merge(*(rows_of(folder, one) for one in mine), key=itemgetter(2)):
            if start <= row[2] < stop:
                told = row[3]
                tick = to_record(folder, row[0], told).tick
                yield ArchivedTick(row[2], tick, told["sent_ns"], row[0], told["traceparent"])


def files_by_day(folder: Path) -> dict[str, list[ArchiveFile]]:
    """Every file that counts, by the broker's day. Raises SourceError."""
    head = read_head(folder)
    if head is None:
        raise SourceError(f"{folder} holds no archive any more")
    found = {day.day: files_of_day(folder, day) for day in head.days}
    for chunk in head.chunks:
        found.setdefault(chunk.day, []).append(chunk)
    return found


def let_open(count: int) -> None:
    """Let this process have so many files open, and some more. Raises SourceError where it may not."""
    wanted = count + 256
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        if hard < wanted:
            raise SourceError(f"a day of this archive has {count} files, and a process may open {hard}: ulimit -n")
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def rows_of(folder: Path, file: ArchiveFile) -> Iterator[tuple[int, int, int, dict[str, Any]]]:
    """When it was appended, partition, offset and all of each row, in that order. Raises SourceError."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    check_file(folder, file)
    try:
        # A day has a file a symbol, and all are read at once: each holds as little as it can.
        with pq.ParquetFile(folder / file.path, memory_map=True, pre_buffer=False) as parquet:
            for batch in parquet.iter_batches(ROWS, columns=list(TICK_COLUMNS)):
                for k in range(batch.num_rows):
                    row = {name: batch.column(name)[k].as_py() for name in TICK_COLUMNS}
                    yield row["appended_ns"], row["partition"], row["record_offset"], row
    except (pa.ArrowException, OSError) as error:
        raise SourceError(f"{folder / file.path} cannot be read: {error}") from None


def check_file(folder: Path, file: ArchiveFile) -> None:
    """Whether it is what was written, read a piece at a time. Raises SourceError."""
    try:
        with (folder / file.path).open("rb") as opened:
            found = hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        raise SourceError(f"{folder / file.path} cannot be read: {error.strerror}") from None
    if found != file.sha256:
        raise SourceError(f"{folder / file.path} is not what was written: it was changed or is damaged")


def to_record(folder: Path, appended_ns: int, row: dict[str, Any]) -> Record:
    """The tick of a row. Raises SourceError for what is none."""
    told = {name: row[name] for name in ("symbol", "event_time_ns", *QUOTED)}
    try:
        return Record(appended_ns, msgspec.convert(told, Tick))
    except msgspec.ValidationError as error:
        raise SourceError(f"{folder}: offset {row['record_offset']} is no tick: {error}") from None
