"""What was lived, in memory: the newest rows of every symbol, read and asked at the same time."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping, Sequence

import numpy as np
from msgspec import Struct

from services.data.rows import LivedRows, SymbolRows

#: Of what is asked as of a time or an offset: whether it is in memory, on disk, or has not happened.
MEMORY, EARLIER, NONE_YET = "memory", "earlier", "none yet"


class AsOf(Struct, frozen=True):
    """What memory says to a question.

    Attributes:
        place: MEMORY with the row; EARLIER where older rows must be asked for; NONE_YET before the first tick.
        rows: one row, or none.
        settled: whether no later tick can change the answer.
    """

    place: str
    rows: LivedRows | None
    settled: bool


class SymbolInfo(Struct, frozen=True):
    """A symbol of a partition.

    Attributes:
        symbol, partition: which.
        ticks: since the service reads, from the archive's beginning.
        last_offset: of its newest tick, or, where not `exact`, one that is no greater than what is read.
        state_time_ns: the newest event time that its features know.
        warm: whether its features are.
    """

    symbol: str
    partition: int
    ticks: int
    last_offset: int
    state_time_ns: int
    warm: bool
    exact: bool = True


class LivedMarket:
    """The newest rows of all symbols. One thread adds, others ask."""

    def __init__(self, memory_rows: int) -> None:
        """Empty.

        Args:
            memory_rows: of all symbols together; those that are not archived yet are kept whatever it says.
        """
        self._memory_rows = memory_rows
        self._lock = threading.Lock()
        self._symbols: dict[str, dict[int, SymbolRows]] = {}
        self._incomplete: frozenset[int] = frozenset()
        self._position: dict[int, int] = {}
        #: Symbol and partition -> its newest tick, of those that are known from a state alone too.
        self._newest: dict[tuple[str, int], SymbolInfo] = {}

    def begin(self, positions: Mapping[int, int], known: Sequence[SymbolInfo], incomplete: Collection[int]) -> None:
        """Partitions are read from these offsets on.

        Args:
            positions: partition -> offset of the next message.
            known: symbols, whose rows before are on disk where memory has none.
            incomplete: partitions of which something was deleted before it was read.
        """
        with self._lock:
            self._position.update(positions)
            self._incomplete = frozenset(incomplete)
            for one in known:
                self._newest.setdefault((one.symbol, one.partition), one)
                self._symbols.setdefault(one.symbol, {}).setdefault(one.partition, SymbolRows())

    def clear(self) -> None:
        """Forget everything: it may be of another log."""
        with self._lock:
            self._symbols, self._position, self._newest = {}, {}, {}

    def is_complete(self, partition: int) -> bool:
        """Whether every tick of a partition was read, from its log's beginning on."""
        with self._lock:
            return partition not in self._incomplete

    def add(self, partition: int, rows: LivedRows, next_offset: int, archived_to: int) -> None:
        """Rows that follow those of before, and how far the log is read."""
        by_symbol: dict[str, list[int]] = {}
        for k, symbol in enumerate(rows.symbols):
            by_symbol.setdefault(symbol, []).append(k)
        with self._lock:
            for symbol, numbers in by_symbol.items():
                mine = self._symbols.setdefault(symbol, {}).setdefault(partition, SymbolRows())
                keep = max(SymbolRows.LEAST, self._memory_rows // max(1, len(self._newest)))
                mine.append(rows, np.array(numbers, np.int64), archived_to, keep)
                self._note(symbol, partition, rows, numbers)
            self._position[partition] = next_offset

    def _note(self, symbol: str, partition: int, rows: LivedRows, numbers: list[int]) -> None:
        last, before = numbers[-1], self._newest.get((symbol, partition))
        self._newest[symbol, partition] = SymbolInfo(
            symbol, partition, (before.ticks if before else 0) + len(numbers), int(rows.offsets[last]),
            int(rows.state_time_ns[last]), bool(rows.warm[last]),
        )  # fmt: skip

    def partitions(self, symbol: str) -> list[int]:
        """Where a symbol's ticks lie; none for one that is not known."""
        with self._lock:
            return sorted(self._symbols.get(symbol, {}))

    def symbols(self) -> list[SymbolInfo]:
        """All, by name."""
        with self._lock:
            return [self._newest[key] for key in sorted(self._newest)]

    def info(self, symbol: str, partition: int) -> SymbolInfo | None:
        """One of them."""
        with self._lock:
            return self._newest.get((symbol, partition))

    def positions(self) -> dict[int, int]:
        """Partition -> offset after the last message that is read."""
        with self._lock:
            return dict(self._position)

    def newest(self, symbol: str, partition: int) -> AsOf:
        """The newest row."""
        with self._lock:
            rows = self._symbols[symbol][partition]
            if not len(rows):
                return AsOf(EARLIER, None, settled=False)
            return AsOf(MEMORY, rows.part(symbol, len(rows) - 1, len(rows)), settled=False)

    def as_of(self, symbol: str, partition: int, *, offset: int | None = None, time_ns: int | None = None) -> AsOf:
        """The last row at or before an offset, or one that knows nothing newer than a time.

        A row that came late knows what came before it: its state time, which never runs backwards, is compared.
        Raises KeyError for a symbol that is not known there.
        """
        with self._lock:
            rows, known = self._symbols[symbol][partition], self._newest[symbol, partition]
            if offset is not None:
                number, settled = rows.at_offset(offset), offset < self._position[partition]
            else:
                asked = time_ns or 0
                # Another tick of the very same time may come.
                number, settled = rows.at_time(asked), asked < known.state_time_ns
            if number < 0:
                return AsOf(NONE_YET if known.ticks == len(rows) else EARLIER, None, settled)
            return AsOf(MEMORY, rows.part(symbol, number, number + 1), settled)

    def between(
        self, symbol: str, partition: int, offsets: tuple[int, int], times_ns: tuple[int, int], limit: int
    ) -> tuple[LivedRows, int]:
        """The first rows of a symbol within offsets and state times, and from which offset memory has all of them.

        Neither runs backwards, so that they are one piece.
        """
        with self._lock:
            rows = self._symbols[symbol][partition]
            if not len(rows):
                return rows.part(symbol, 0, 0), self._position[partition]
            begin = max(rows.at_offset(offsets[0] - 1), rows.at_time(times_ns[0] - 1)) + 1
            end = min(rows.at_offset(offsets[1]), rows.at_time(times_ns[1])) + 1
            return rows.part(symbol, begin, max(begin, min(end, begin + limit))), rows.first_offset
