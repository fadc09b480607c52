"""Rows of lived ticks as columns: what is kept in memory, what is archived, what is answered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from msgspec import Struct

from trading.arrays import BoolArray, Float32Array, FloatArray, Int64Array
from trading.features.definitions import FEATURES

N_FEATURES = len(FEATURES)
NONE = np.empty(0, np.int64)


class LivedRows(Struct):
    """n ticks of one partition in the order of its log.

    Attributes:
        symbols: n.
        offsets: int64 [n].
        event_time_ns: int64 [n], what the exchange said.
        state_time_ns: int64 [n], the symbol's newest event time so far: that of its features. Never runs backwards
            within a symbol.
        appended_ns: int64 [n], when the broker took it. Never runs backwards.
        quotes: float64 [n, 6] as in `TickBatch`.
        features: float32 [n, 32].
        warm: bool [n].
        sent_ns: int64 [n], when the producer says that it sent it; empty of rows from memory.
        traces: n W3C traceparents, or None; empty of rows from memory.
    """

    symbols: Sequence[str]
    offsets: Int64Array
    event_time_ns: Int64Array
    state_time_ns: Int64Array
    appended_ns: Int64Array
    quotes: FloatArray
    features: Float32Array
    warm: BoolArray
    sent_ns: Int64Array = NONE
    traces: Sequence[bytes | None] = ()

    def __len__(self) -> int:
        return len(self.offsets)

    def cut(self, begin: int, end: int) -> LivedRows:
        """A view of some rows."""
        return LivedRows(
            self.symbols[begin:end], self.offsets[begin:end], self.event_time_ns[begin:end],
            self.state_time_ns[begin:end], self.appended_ns[begin:end], self.quotes[begin:end],
            self.features[begin:end], self.warm[begin:end], self.sent_ns[begin:end], self.traces[begin:end],
        )  # fmt: skip

    @classmethod
    def empty(cls) -> LivedRows:
        """No rows."""
        none = np.empty(0, np.int64)
        features = np.empty((0, N_FEATURES), np.float32)
        return cls([], none, none, none, none, np.empty((0, 6)), features, np.empty(0, np.bool_))

    @classmethod
    def joined(cls, parts: Sequence[LivedRows]) -> LivedRows:
        """One after another; there is at least one."""
        if len(parts) == 1:
            return parts[0]
        names = ("offsets", "event_time_ns", "state_time_ns", "appended_ns", "quotes", "features", "warm")
        symbols = [symbol for part in parts for symbol in part.symbols]
        columns: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
        return cls(symbols=symbols, **columns)


class SymbolRows:
    """The newest rows of one symbol; the oldest are given up where they are archived and there are too many."""

    LEAST = 16

    def __init__(self) -> None:
        self._n = 0
        #: offset, event time, state time, append time.
        self._ints = np.empty((self.LEAST, 4), np.int64)
        self._quotes = np.empty((self.LEAST, 6), np.float64)
        self._features = np.empty((self.LEAST, N_FEATURES), np.float32)
        self._warm = np.empty(self.LEAST, np.bool_)

    def __len__(self) -> int:
        return self._n

    def append(self, rows: LivedRows, mine: Int64Array, archived_to: int, keep: int) -> None:
        """Add some of the rows.

        Args:
            rows: of the partition.
            mine: int64, which of them.
            archived_to: rows before this offset may be given up.
            keep: how many should stay.
        """
        if self._n + len(mine) > len(self._ints):
            self._make_room(len(mine), archived_to, keep)
        begin, end = self._n, self._n + len(mine)
        columns = (rows.offsets, rows.event_time_ns, rows.state_time_ns, rows.appended_ns)
        for k, column in enumerate(columns):
            self._ints[begin:end, k] = column[mine]
        self._quotes[begin:end] = rows.quotes[mine]
        self._features[begin:end] = rows.features[mine]
        self._warm[begin:end] = rows.warm[mine]
        self._n = end

    @property
    def first_offset(self) -> int:
        """Of the oldest row that is kept."""
        return int(self._ints[0, 0])

    def at_offset(self, offset: int) -> int:
        """Number of the last row whose tick lies at or before an offset; -1 for none."""
        return int(np.searchsorted(self._ints[: self._n, 0], offset, "right")) - 1

    def at_time(self, time_ns: int) -> int:
        """Number of the last row that knows nothing newer than a time; -1 for none."""
        return int(np.searchsorted(self._ints[: self._n, 2], time_ns, "right")) - 1

    def part(self, symbol: str, begin: int, end: int) -> LivedRows:
        """A copy of some rows."""
        ints = self._ints[begin:end]
        return LivedRows(
            [symbol] * len(ints), ints[:, 0].copy(), ints[:, 1].copy(), ints[:, 2].copy(), ints[:, 3].copy(),
            self._quotes[begin:end].copy(), self._features[begin:end].copy(), self._warm[begin:end].copy(),
        )  # fmt: skip

    def _make_room(self, count: int, archived_to: int, keep: int) -> None:
        archived = int(np.searchsorted(self._ints[: self._n, 0], archived_to))
        gone = min(archived, max(0, self._n + count - keep))
        left = self._n - gone
        size = len(self._ints)
        while size < left + count:
            size *= 2
        for name in ("_ints", "_quotes", "_features", "_warm"):
            old = getattr(self, name)
            # A copy, always: what was given out is one too, so nobody looks at what moves.
            new = np.empty((size, *old.shape[1:]), old.dtype)
            new[:left] = old[gone : self._n]
            setattr(self, name, new)
        self._n = left
