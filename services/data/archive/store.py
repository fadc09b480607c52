"""The archive's only writer: rows and how far they reach, in one step that is done or not done."""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import pyarrow.parquet as pq
from msgspec import Struct

from services.data.archive.splitting import DayWriter
from services.data.archive.states import decode_state, encode_state
from services.data.archive.tables import to_table
from services.data.rows import LivedRows
from trading.encoding import encode
from trading.errors import BadRecord, ConfigurationError, SourceError
from trading.features import kernel
from trading.features.definitions import FEATURE_VERSION
from trading.features.engine import FeatureEngine
from trading.files import replace_file, sync
from trading.history.archive import (
    HEAD,
    ArchiveDay,
    ArchiveFile,
    ArchiveHead,
    DayManifest,
    PartitionHead,
    checked_bytes,
    files_of_day,
    read_head,
)

#: Rows of a group within a file: what a question has to read at least.
GROUP_ROWS = 16_384
#: So long a file that is named no more is left to those who began to read it before, and looked for so often.
GRACE_S, SWEEP_S = 86_400.0, 600.0
#: A broker's clock may have run back by so much at most when a day is closed.
MOST_CHUNKS = 64
#: Folders and names of what is written there.
OURS = (("chunks", "*.parquet"), ("states", "*.state"), ("days", "*.json"), ("days/*", "*.parquet"))
CLOSE_AFTER_NS = 3600 * 1_000_000_000


class PartitionProgress(Struct):
    """What is archived of a partition, and what follows.

    Attributes:
        engine: the features before `next_offset`.
        next_offset: of the first tick that is not archived.
        appended_ns: when the broker had taken the last message.
        times: symbol -> the newest event time that its features know.
        dropped, lost: as in `PartitionHead`.
    """

    engine: FeatureEngine
    next_offset: int = 0
    appended_ns: int = 0
    dropped: int = 0
    lost: int = 0
    times: dict[str, int] = {}


class Archive:
    """A folder that one process writes; see `trading.history.archive` for what lies in it."""

    def __init__(
        self,
        folder: Path,
        topic: str,
        topic_id: str,
        now_ns: Callable[[], int] = time.time_ns,
        *,
        split_rows: int = 500_000,
    ) -> None:
        """Open or begin one, and be the only one who writes it.

        Args:
            folder: made where it is not there.
            topic, topic_id: of the ticks.
            now_ns: wall clock.
            split_rows: chunks of so many rows are split by symbol.

        Raises:
            ConfigurationError: it is of another topic or feature version, or somebody else writes it.
            SourceError: it is damaged.
        """
        self.folder, self._now_ns, self._split_rows = folder, now_ns, split_rows
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise ConfigurationError(f"{folder} cannot be written: {error.strerror}") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise ConfigurationError(
                f"{folder} is written by another data service: give this one a folder of its own"
            ) from None
        try:
            self.head = self._open(topic, topic_id)
        except BaseException:
            os.close(self._lock)
            raise
        self._days = DayWriter(folder)
        #: The last number that files were named by: what failed may lie there, and a head may name it after all.
        self._number = self.head.number
        self._swept_s = -SWEEP_S
        #: Path -> since when nobody names it, monotonic seconds.
        self._unnamed: dict[str, float] = {}

    def progress(self, partition: int) -> PartitionProgress:
        """Where a partition goes on. Raises SourceError where its state is damaged."""
        told = self.head.partitions.get(partition)
        if told is None:
            return PartitionProgress(FeatureEngine())
        content = checked_bytes(self.folder, told.state, told.sha256)
        try:
            engine = decode_state(content, partition, told.next_offset)
        except BadRecord as error:
            raise SourceError(f"{self.folder / told.state} cannot be used: {error}") from None
        symbols, ints, _ = engine.dump()
        times = dict(zip(symbols, ints[:, kernel.I_TIME].tolist(), strict=True))
        return PartitionProgress(engine, told.next_offset, told.appended_ns, told.dropped, told.lost, times)

    def add(
        self, rows: Mapping[int, Sequence[LivedRows]], progress: Mapping[int, PartitionProgress]
    ) -> ArchiveHead:
        """Archive rows, and with them how far partitions are read: both or neither.

        Args:
            rows: partition -> rows in the order of its log, from where it was archived to.
            progress: of each partition after them.

        Raises:
            OSError: nothing of it counts.
        """
        number = self._take_number()
        chunks = [
            self._write_chunk(number, partition, day, parts)
            for partition, mine in rows.items()
            for day, parts in by_day(mine).items()
        ]
        partitions = dict(self.head.partitions)
        for partition, told in progress.items():
            content = encode_state(partition, told.next_offset, told.engine)
            place = f"states/{partition}-{number}.state"
            self._write(place, content)
            partitions[partition] = PartitionHead(
                told.next_offset,
                place,
                hashlib.sha256(content).hexdigest(),
                told.appended_ns,
                told.dropped,
                told.lost,
            )
        return self._replace(number, chunks=[*self.head.chunks, *chunks], partitions=partitions)

    def tidy(self, busy: Collection[str] = ()) -> ArchiveHead:
        """Split chunks by symbol where there are many or their day is over; take away what nobody names.

        A day in `busy` still grows, whatever the clock says: it is not made whole again and again. Raises OSError,
        SourceError; the archive is as it was.
        """
        over = day_of(self._now_ns() - CLOSE_AFTER_NS)
        by_days: dict[str, list[ArchiveFile]] = {}
        for chunk in self.head.chunks:
            by_days.setdefault(chunk.day, []).append(chunk)
        for day, chunks in sorted(by_days.items()):
            ended = day < over and day not in busy
            if ended or sum(one.rows for one in chunks) >= self._split_rows or len(chunks) >= MOST_CHUNKS:
                self._split(day, chunks, whole=ended)
        for one in self.head.days:
            if one.day < over and not one.whole and one.day not in {*by_days, *busy}:
                self._split(one.day, [], whole=True)
        if time.monotonic() - self._swept_s >= SWEEP_S:
            self._swept_s = time.monotonic()
            self._sweep()
        return self.head

    def close(self) -> None:
        """Let another one write it."""
        os.close(self._lock)

    def _open(self, topic: str, topic_id: str) -> ArchiveHead:
        head = read_head(self.folder)
        if head is None:
            return ArchiveHead(0, topic, topic_id, FEATURE_VERSION, {}, [], [])
        way_out = "give the data service another folder (ULTRATHINK_DATA_ARCHIVE), and keep this one as a SOURCE"
        if (head.topic, head.topic_id) != (topic, topic_id):
            raise ConfigurationError(
                f"{self.folder} is the archive of {head.topic} ({head.topic_id}), and the topic now is {topic} "
                f"({topic_id}): {way_out}"
            )
        if head.feature_version != FEATURE_VERSION:
            raise ConfigurationError(
                f"{self.folder} holds feature version {head.feature_version}, and this is {FEATURE_VERSION}: "
                f"{way_out}"
            )
        return head

    def _write_chunk(self, number: int, partition: int, day: str, parts: Sequence[LivedRows]) -> ArchiveFile:
        place = f"chunks/{day}-{partition}-{number}.parquet"
        table = to_table(partition, parts)
        self._write(place, lambda file: pq.write_table(table, file, row_group_size=GROUP_ROWS, compression="zstd"))
        times = [(int(part.state_time_ns.min()), int(part.state_time_ns.max())) for part in parts]
        return ArchiveFile(
            place, digest(self.folder / place), day, partition, "", table.num_rows, int(parts[0].offsets[0]),
            int(parts[-1].offsets[-1]), min(t[0] for t in times), max(t[1] for t in times),
        )  # fmt: skip

    def _split(self, day: str, chunks: Sequence[ArchiveFile], *, whole: bool) -> None:
        number = self._take_number()
        known = next((one for one in self.head.days if one.day == day), None)
        files = files_of_day(self.folder, known) if known is not None else []
        files = self._days.split(number, day, files, chunks, whole=whole)
        content, place = encode(DayManifest(files)), f"days/{day}-{number}.json"
        self._write(place, content)
        made = ArchiveDay(day, sum(one.rows for one in files), place, hashlib.sha256(content).hexdigest(), whole)
        gone = {one.path for one in chunks}
        self._replace(
            number,
            chunks=[one for one in self.head.chunks if one.path not in gone],
            days=sorted([*(one for one in self.head.days if one.day != day), made], key=lambda one: one.day),
        )

    def _take_number(self) -> int:
        self._number = max(self._number, self.head.number) + 1
        return self._number

    def _write(self, place: str, content: bytes | Callable[[BinaryIO], object]) -> None:
        path = self.folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, content)
        sync(path.parent)

    def _replace(self, number: int, **changes: Any) -> ArchiveHead:
        """The one step that makes it so."""
        head = msgspec.structs.replace(self.head, number=number, **changes)
        replace_file(self.folder / HEAD, msgspec.json.format(encode(head), indent=1))
        sync(self.folder)
        self.head = head
        return head

    def _sweep(self) -> None:
        """Take away files of ours that nobody has named for an hour: whoever began to read them has done so."""
        named = {one.path for one in self.head.chunks} | {one.state for one in self.head.partitions.values()}
        for day in self.head.days:
            named |= {day.manifest, *(one.path for one in files_of_day(self.folder, day))}
        now, there = time.monotonic(), set()
        for folder, pattern in OURS:
            # What a killed one was writing has a dot before its name, and letters after it.
            for path in (*(self.folder / folder).glob(pattern), *(self.folder / folder).glob(f".{pattern}.*")):
                place = os.fspath(path.relative_to(self.folder))
                if place not in named:
                    there.add(place)
                    # A state serves nobody but us.
                    if folder == "states" or now - self._unnamed.setdefault(place, now) > GRACE_S:
                        path.unlink(missing_ok=True)
        self._unnamed = {place: since for place, since in self._unnamed.items() if place in there}


def by_day(parts: Sequence[LivedRows]) -> dict[str, list[LivedRows]]:
    """Rows by the broker's day, which runs forward."""
    found: dict[str, list[LivedRows]] = {}
    for part in parts:
        first, last = day_of(int(part.appended_ns[0])), day_of(int(part.appended_ns[-1]))
        if first == last:
            found.setdefault(first, []).append(part)
            continue
        days = [day_of(int(one)) for one in part.appended_ns]
        begin = 0
        for end in range(1, len(days) + 1):
            if end == len(days) or days[end] != days[begin]:
                found.setdefault(days[begin], []).append(part.cut(begin, end))
                begin = end
    return found


def day_of(time_ns: int) -> str:
    """UTC."""
    return datetime.fromtimestamp(time_ns // 1_000_000_000, UTC).strftime("%Y-%m-%d")


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
