"""The one feature kernel, used live and in training. 32 float32 features a tick.

Notation: m is the mid (mean of best bid and ask, else the latest trade), x = ln m, r the change
of x since the symbol's previous tick, t the event time. "EWMA n" has weight 2 / (n + 1) on the
newest tick; "half-life h" decays by event time with 2^(-dt / h). Where a tick lacks a field the
standing value is used; what cannot be known yet is 0. A tick whose event time is older than the
symbol's newest is taken at the newest time, so that time never runs backwards; equal times are
ordinary ticks. A symbol is warm after `WARM_TICKS` ticks with a known mid.

| features | formula | source |
| --- | --- | --- |
| return_1s ... return_20d | x(t) - x(floor(t / d) d - h), d = h / 8, previous-tick sampling; since the first tick while history is shorter | Dacorogna et al. (2001), An Introduction to High-Frequency Finance, 2.2 |
| volatility_10s ... volatility_20d | sqrt(V), V <- V 2^(-dt/h) + r^2 | RiskMetrics (1996), with decay by event time |
| spread_bps | 1e4 (ask - bid) / m | |
| spread_zscore | (s - EWMA 256 of s) / its EW standard deviation | Finch (2009), Incremental calculation of weighted mean and variance |
| size_imbalance | (bid size - ask size) / (bid size + ask size) | Cont, Kukanov and Stoikov (2014) |
| microprice_deviation_bps | 1e4 (bid ask_size + ask bid_size) / (sizes) / m - 1e4 | Stoikov (2018), The micro-price |
| trade_flow_10s, trade_flow_10m | decayed sum of side x size / decayed sum of size, in [-1, 1] | sides: Lee and Ready (1991) |
| tick_rate | ln(1 + ticks a second, half-life 10 s) | |
| rsi_14 | RSI / 50 - 1, a tick a bar | Wilder (1978) |
| macd, macd_histogram | EMA12(x) - EMA26(x); minus its EMA9 | Appel (1979) |
| range_14 | Wilder average of abs(r) | Wilder (1978), average true range |
| bollinger_position | (x - EWMA 20) / (2 EW standard deviations) | Bollinger (2001) |
| drawdown_10m, drawdown_20d | x - rolling high of x (at most 0) | |
| time_of_day_sin ... week_cos | sine and cosine of the UTC day and of the week | |
| log_gap | ln(1 + seconds since the symbol's previous tick) | |
| return_zscore | r / EW standard deviation of r (20 ticks) | |
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Self

import numpy as np
from msgspec import Struct

from gateway.domain import feature_kernel as kernel
from gateway.domain.schemas import BoolArray, Float32Array, FloatArray, Int64Array, TickBatch

#: Raise it whenever a formula, the order or the meaning of a feature changes.
FEATURE_VERSION = 1
WARM_TICKS = 64

FEATURES = (
    *(f"return_{h}" for h in ("1s", "10s", "1m", "10m", "1h", "1d", "5d", "20d")),
    *(f"volatility_{h}" for h in ("10s", "10m", "1d", "20d")),
    "spread_bps",
    "spread_zscore",
    "size_imbalance",
    "microprice_deviation_bps",
    "trade_flow_10s",
    "trade_flow_10m",
    "tick_rate",
    "rsi_14",
    "macd",
    "macd_histogram",
    "range_14",
    "bollinger_position",
    "drawdown_10m",
    "drawdown_20d",
    "time_of_day_sin",
    "time_of_day_cos",
    "week_sin",
    "week_cos",
    "log_gap",
    "return_zscore",
)


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
