"""Reads the ticks as a gateway does, computes its features, and has both archived."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np
import structlog

from services.data.archive.store import Archive, PartitionProgress, by_day
from services.data.market.lived import LivedMarket, SymbolInfo
from services.data.rows import LivedRows
from trading.errors import ConfigurationError, UltraThinkError
from trading.features import kernel
from trading.features.definitions import WARM_TICKS
from trading.history.archive import ArchiveHead
from trading.intake import Admission
from trading.market import Tick, TickBatch
from trading.state.log import LoggedMessage

log = structlog.get_logger()
RETRY_S = 1.0
READ_S = 0.1
#: Rows of an archive in one step, at most: they are in memory until then.
MOST_ROWS = 100_000


class TickLog(Protocol):
    """The ticks' topic; every method may raise ServiceUnavailable."""

    def topic_id(self) -> str:
        """Of the topic as it is now."""

    def bounds(self) -> Mapping[int, tuple[int, int]]:
        """Partition -> the first offset that is held, and the one after the last."""

    def start(self, places: Mapping[int, int]) -> None:
        """Read from these offsets on."""

    def read(self, timeout_s: float) -> Mapping[int, Sequence[LoggedMessage]]:
        """What has come; waits so long for something."""

    def close(self) -> None:
        """Disconnect."""


class Follower:
    """One thread that reads on; the archive and the market are its to change."""

    def __init__(
        self, ticks: TickLog, market: LivedMarket, open_archive: Callable[[str], Archive], admission: Admission,
        shown: Callable[[ArchiveHead], None], flush_s: float = 60.0, *, clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        """Nothing is read yet.

        Args:
            ticks: their log.
            market: gets every row.
            open_archive: of a topic id.
            admission: what a gateway takes for a tick.
            shown: told of every new head of the archive.
            flush_s: rows are archived so often, or when there are many.
            clock: monotonic seconds.
        """
        self._ticks, self._market, self._open, self._admission = ticks, market, open_archive, admission
        self._shown, self._flush_s, self._clock = shown, flush_s, clock
        self._stopping = threading.Event()
        self._archive: Archive | None = None
        self._parts: dict[int, PartitionProgress] = {}
        self._waiting: dict[int, list[LivedRows]] = {}
        self._count, self._flushed_at = 0, clock()
        self._log_problem, self._archive_problem, self._ended = "it has not begun", "", False
        #: Of the topic that is read; "" before it is known.
        self.topic_id = ""

    @property
    def problem(self) -> str:
        """Why the newest is not read, or not archived; "" where all is well."""
        if self._ended:
            return f"what reads them has ended: {self._log_problem or 'see the log'}"
        return self._log_problem or self._archive_problem

    @property
    def lost(self) -> int:
        """Ticks that were deleted before they were read: what a gateway knew of them is not known here."""
        return sum(part.lost for part in list(self._parts.values()))

    def run(self) -> None:
        """Read until `stop`; what does not answer is waited for, and said in `problem`."""
        try:
            while not self._stopping.is_set():
                try:
                    self.begin()
                    while not self._stopping.is_set():
                        self.turn()
                except Exception as error:
                    # Whatever it is: a thread that dies in silence would leave old features looking fresh.
                    if not isinstance(error, UltraThinkError | OSError):
                        log.exception("the data service met what it does not know")
                    self._say(str(error) or type(error).__name__)
                    self._stopping.wait(RETRY_S)
        finally:
            self.end()
            self._ended = True

    def stop(self) -> None:
        """End soon."""
        self._stopping.set()

    def end(self) -> None:
        """Archive what is left, and let go of everything."""
        try:
            if self._archive is not None:
                self.flush()
        except (OSError, UltraThinkError) as error:
            log.warning("the last rows are not archived, and are read again at the next start", why=str(error))
        finally:
            if self._archive is not None:
                self._archive.close()
                self._archive = None
            self._ticks.close()

    def begin(self) -> None:
        """Read on from where it was, of the same log. Raises as the ports do."""
        topic_id, bounds = self._ticks.topic_id(), self._ticks.bounds()
        if self._archive is None:
            archive = self._open(topic_id)
            try:
                self._shown(archive.head)
                self._parts = {partition: archive.progress(partition) for partition in bounds}
            except BaseException:
                archive.close()
                raise
            self._archive, self.topic_id = archive, topic_id
        elif topic_id != self.topic_id:
            self._forget()
            raise ConfigurationError(
                "the topic of the ticks was made anew: end this data service, and give it another archive"
            )
        for partition, (first, end) in bounds.items():
            self._begin_partition(self._archive, partition, first, end)
        self._market.begin(
            {p: self._parts[p].next_offset for p in bounds},
            [one for p in bounds for one in known_symbols(p, self._parts[p])],
            {p for p in bounds if self._parts[p].lost},
        )
        self._ticks.start({partition: self._parts[partition].next_offset for partition in bounds})
        self._log_problem = ""

    def _forget(self) -> None:
        """What was read since may be of another log: it is neither archived nor answered."""
        self._waiting, self._count = {}, 0
        self._parts = {}
        self._market.clear()

    def _begin_partition(self, archive: Archive, partition: int, first: int, end: int) -> None:
        told = self._parts.get(partition)
        if told is None:
            told = self._parts[partition] = archive.progress(partition)
        if told.next_offset > end:
            raise ConfigurationError(
                f"partition {partition} is read to {told.next_offset} and ends at {end}: its topic was cut short; "
                "give the data service another archive"
            )
        if told.next_offset < first:
            # Deleted before anybody read it here.
            gone = first - told.next_offset
            log.warning("ticks were deleted before they were read", partition=partition, lost=gone)
            told.lost += gone
            told.next_offset = first

    def turn(self) -> None:
        """Take what has come, and archive what is due. Raises ServiceUnavailable."""
        if self._count >= MOST_ROWS or self._clock() - self._flushed_at >= self._flush_s:
            self._archive_due()
        if self._count >= MOST_ROWS:
            # What cannot be archived must stay in memory: no more is read until it can.
            self._stopping.wait(RETRY_S)
            return
        for partition, messages in self._ticks.read(READ_S).items():
            self._take(partition, messages)

    def _archive_due(self) -> None:
        try:
            self.flush()
            self._archive_problem = ""
        except (OSError, UltraThinkError) as error:
            problem = f"ticks are read and not archived: {error}"
            if problem != self._archive_problem:
                log.warning("the archive cannot be written", why=str(error))
            self._archive_problem = problem

    def flush(self) -> None:
        """Archive what is in memory only. Raises OSError, SourceError; it stays in memory then."""
        self._flushed_at = self._clock()
        if self._archive is None:
            return
        waiting = {partition: parts for partition, parts in self._waiting.items() if parts}
        told = self._archive.head.partitions
        moved = {
            partition: one
            for partition, one in self._parts.items()
            if partition not in told or told[partition].next_offset != one.next_offset
        }
        if moved:
            self._archive.add(waiting, moved)
            # They count from here on, whatever becomes of what follows.
            self._waiting, self._count = {}, 0
        self._shown(self._archive.head)
        self._archive.tidy({day for parts in waiting.values() for day in by_day(parts)})
        self._shown(self._archive.head)

    def _take(self, partition: int, messages: Sequence[LoggedMessage]) -> None:
        part = self._parts[partition]
        messages = [m for m in messages if m.offset >= part.next_offset]
        if not messages:
            return
        appended = [m.appended_ns for m in messages]
        found = self._admission.admit_all([m.payload for m in messages], appended, part.engine.symbols)
        kept = [(m, tick) for m, tick in zip(messages, found, strict=True) if isinstance(tick, Tick)]
        part.dropped += len(messages) - len(kept)
        part.next_offset = messages[-1].offset + 1
        archived = self._archive.head.partitions.get(partition) if self._archive is not None else None
        rows = rows_of(part, kept)
        self._market.add(partition, rows, part.next_offset, archived.next_offset if archived else 0)
        if kept:
            self._waiting.setdefault(partition, []).append(rows)
            self._count += len(rows)
        part.appended_ns = max(part.appended_ns, *appended)

    def _say(self, problem: str) -> None:
        if problem != self._log_problem:
            log.warning("the data service waits", why=problem)
        self._log_problem = problem


def rows_of(part: PartitionProgress, kept: Sequence[tuple[LoggedMessage, Tick]]) -> LivedRows:
    """Ticks fed to the features, in order."""
    batch = TickBatch.from_ticks([tick for _, tick in kept])
    found = part.engine.update(batch)
    state_times = np.empty(len(batch), np.int64)
    for k, (symbol, time_ns) in enumerate(zip(batch.symbols, batch.event_time_ns.tolist(), strict=True)):
        # As the kernel does: a symbol's time never runs backwards.
        part.times[symbol] = state_times[k] = max(part.times.get(symbol, time_ns), time_ns)
    appended = np.fromiter((m.appended_ns for m, _ in kept), np.int64, len(kept))
    return LivedRows(
        batch.symbols, np.fromiter((m.offset for m, _ in kept), np.int64, len(kept)), batch.event_time_ns,
        state_times,
        np.maximum.accumulate(np.maximum(appended, part.appended_ns)) if len(kept) else appended, batch.quotes,
        found.values, found.warm, np.fromiter((m.sent_ns for m, _ in kept), np.int64, len(kept)),
        [m.traceparent for m, _ in kept],
    )  # fmt: skip


def known_symbols(partition: int, part: PartitionProgress) -> list[SymbolInfo]:
    """What a state tells of its symbols."""
    symbols, ints, _ = part.engine.dump()
    return [
        SymbolInfo(
            symbol, partition, int(ints[k, kernel.I_COUNT]), part.next_offset - 1, int(ints[k, kernel.I_TIME]),
            bool(ints[k, kernel.I_PRICED] >= WARM_TICKS), False,
        )
        for k, symbol in enumerate(symbols)
    ]  # fmt: skip
