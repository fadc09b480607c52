"""Streaming feature state of every symbol: ticks in, one row a tick out."""

from __future__ import annotations

from collections.abc import Collection
from typing import Self

import numpy as np
from msgspec import Struct

from trading.arrays import BoolArray, Float32Array, FloatArray, Int64Array
from trading.features import kernel
from trading.features.definitions import WARM_TICKS
from trading.market import TickBatch


class FeatureRows(Struct, frozen=True):
    """What the kernel says of n ticks.

    Attributes:
        values: float32 [n, 32], columns in the order of `FEATURES`.
        warm: bool [n].
        market: float64 [n, 4], standing bid, ask, latest trade and mid; NaN is unknown.
        event_time_ns: int64 [n], of the ticks.
        quote_time_ns: int64 [n], event time at which the older side of the standing quote was
            stated; the tick's own where there is no quote.
    """

    values: Float32Array
    warm: BoolArray
    market: FloatArray
    event_time_ns: Int64Array
    quote_time_ns: Int64Array

    def __len__(self) -> int:
        return len(self.warm)

    @classmethod
    def empty(cls, event_time_ns: Int64Array) -> Self:
        """Room for the rows of ticks at these times."""
        n = len(event_time_ns)
        return cls(
            np.empty((n, kernel.N_FEATURES), np.float32),
            np.empty(n, np.bool_),
            np.empty((n, 4), np.float64),
            event_time_ns,
            np.empty(n, np.int64),
        )

    def part(self, begin: int, end: int) -> Self:
        """A view of some rows."""
        return self.__class__(
            self.values[begin:end],
            self.warm[begin:end],
            self.market[begin:end],
            self.event_time_ns[begin:end],
            self.quote_time_ns[begin:end],
        )


class FeatureEngine:
    """Streaming state of every symbol. Memory is constant in time, linear in symbols."""

    def __init__(self) -> None:
        self._rows: dict[str, int] = {}
        self._ints = np.zeros((0, kernel.INT_WIDTH), np.int64)
        self._floats = np.zeros((0, kernel.FLOAT_WIDTH), np.float64)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def symbols(self) -> Collection[str]:
        """Those seen so far, in the order of their first tick."""
        return self._rows.keys()

    def update(self, batch: TickBatch, out: FeatureRows | None = None) -> FeatureRows:
        """Feed ticks in arrival order; returns one row a tick, whatever the batch boundaries, in `out` if given."""
        out = FeatureRows.empty(batch.event_time_ns) if out is None else out
        known = self._rows
        try:
            rows = np.array([known[symbol] for symbol in batch.symbols], np.int64)
        except KeyError:
            rows = np.array([self._row(symbol) for symbol in batch.symbols], np.int64)
        priced = np.empty(len(batch), np.int64)
        kernel.update_states(
            self._ints,
            self._floats,
            rows,
            batch.event_time_ns,
            batch.quotes,
            out.values,
            out.market,
            priced,
            out.quote_time_ns,
        )
        np.greater_equal(priced, WARM_TICKS, out=out.warm)
        return out

    def dump(self) -> tuple[list[str], Int64Array, FloatArray]:
        """A copy of the state: n symbols in order of their first tick, int64 [n, .], float64 [n, .]."""
        n = len(self._rows)
        return list(self._rows), self._ints[:n].copy(), self._floats[:n].copy()

    @classmethod
    def load(cls, symbols: list[str], ints: Int64Array, floats: FloatArray) -> Self:
        """The engine that `dump` described. Raises ValueError for arrays of another shape."""
        wanted = ((len(symbols), kernel.INT_WIDTH), (len(symbols), kernel.FLOAT_WIDTH))
        if (ints.shape, floats.shape) != wanted:
            raise ValueError(f"feature state of shape {ints.shape}, {floats.shape}; expected {wanted}")
        engine = cls()
        engine._rows = {symbol: row for row, symbol in enumerate(symbols)}
        engine._ints, engine._floats = ints.copy(), floats.copy()
        return engine

    def _row(self, symbol: str) -> int:
        known = self._rows.get(symbol)
        if known is not None:
            return known
        row = len(self._rows)
        if row == len(self._ints):
            self._grow()
        self._ints[row] = 0
        self._floats[row] = 0.0
        self._floats[row, kernel.S_BID : kernel.S_LOG_MID] = np.nan
        self._floats[row, kernel.S_SPREAD_MEAN] = np.nan
        self._rows[symbol] = row
        return row

    def _grow(self) -> None:
        old = len(self._ints)
        new = max(16, 2 * old)
        self._ints = np.concatenate([self._ints, np.zeros((new - old, kernel.INT_WIDTH), np.int64)])
        self._floats = np.concatenate([self._floats, np.zeros((new - old, kernel.FLOAT_WIDTH))])
