"""Which ticks become rows: every one, or the one that closes a bar.

A bar closes with the first tick that makes it full: of a time bar, the first at or after its end; of a tick,
volume or dollar bar, the one that brings the sum to its size (Lopez de Prado 2018, Advances in Financial Machine
Learning, 2.3). So a row holds nothing that was not known when its tick came, and the features are the kernel's,
which has seen every tick.
"""

from __future__ import annotations

import math

import numpy as np
from msgspec import Struct
from numba import njit

from trading.arrays import BoolArray, FloatArray, Int64Array
from trading.errors import ConfigurationError
from trading.spans import parse_span

KINDS = ("ticks", "time", "tick", "volume", "dollar")
EVERY, TIME, TICK, VOLUME, DOLLAR = range(5)
#: Of a symbol's open bar: open, high, low, volume, value, ticks, end of the time bar (ns).
OPEN, HIGH, LOW, VOLUME_SUM, VALUE_SUM, COUNT, END = range(7)
WIDTH = 7


class Sampling(Struct, frozen=True):
    """`kind` is one of KINDS; `size` in ns, ticks, units or money, as its kind says; none for "ticks"."""

    kind: str = "ticks"
    size: float = 1.0

    @classmethod
    def parse(cls, text: str) -> Sampling:
        """Read "ticks", "time:1m", "tick:50", "volume:10" or "dollar:1e6". Raises ConfigurationError."""
        kind, _, size = text.partition(":")
        if kind not in KINDS or (kind == "ticks") != (size == ""):
            raise ConfigurationError(
                f"bars {text!r}: expected ticks, time:SPAN (time:1m), tick:N, volume:UNITS or dollar:MONEY"
            )
        if kind == "ticks":
            return cls()
        if kind == "time":
            return cls(kind, float(parse_span(size)))
        try:
            number = float(size)
        except ValueError:
            number = math.nan
        if not 0.0 < number < math.inf:
            raise ConfigurationError(f"bars {text!r}: expected a number above zero, not {size!r}")
        return cls(kind, number)


class Bars:
    """The open bar of every symbol, as ticks stream in."""

    def __init__(self, sampling: Sampling) -> None:
        self._kind, self._size = KINDS.index(sampling.kind), sampling.size
        self._open = np.zeros((0, WIDTH))

    def update(self, symbols: Int64Array, time_ns: Int64Array, quotes: FloatArray, mids: FloatArray) -> Closed:
        """Feed n ticks.

        Args:
            symbols: int64 [n], numbers of symbols from 0.
            time_ns: int64 [n].
            quotes: float64 [n, 6], as in `TickBatch`.
            mids: float64 [n]; NaN where none is known: such a tick belongs to no bar.
        """
        needed = int(symbols.max(initial=-1)) + 1
        if needed > len(self._open):
            self._open = np.concatenate([self._open, np.zeros((needed - len(self._open), WIDTH))])
        closed = np.zeros(len(symbols), np.bool_)
        values = np.zeros((len(symbols), 5))
        close_bars(self._open, self._kind, self._size, symbols, time_ns, quotes, mids, closed, values)
        return Closed(closed, values[closed])


class Closed(Struct, frozen=True):
    """Which of n ticks closed a bar, bool [n]; and of those, float64 [., 5]: open, high, low, volume, ticks."""

    mask: BoolArray
    values: FloatArray


@njit(cache=True, nogil=True)
def close_bars(
    bars: FloatArray,
    kind: int,
    size: float,
    symbols: Int64Array,
    time_ns: Int64Array,
    quotes: FloatArray,
    mids: FloatArray,
    closed: BoolArray,
    values: FloatArray,
) -> None:
    """Add each tick to its symbol's bar; write `closed` and `values` where that fills it."""
    for i in range(len(symbols)):
        bar, mid = bars[symbols[i]], mids[i]
        if math.isnan(mid):
            continue
        # The bar ends before a tick of the next span: what is traded then belongs to the next.
        late = kind == TIME and bar[COUNT] > 0.0 and time_ns[i] >= bar[END]
        if bar[COUNT] == 0.0:
            bar[OPEN] = bar[HIGH] = bar[LOW] = mid
            bar[END] = (math.floor(time_ns[i] / size) + 1.0) * size
        if late:
            closed[i] = True
            write(bar, values[i])
            bar[END] = (math.floor(time_ns[i] / size) + 1.0) * size
            bar[OPEN] = bar[HIGH] = bar[LOW] = mid
        bar[HIGH], bar[LOW] = max(bar[HIGH], mid), min(bar[LOW], mid)
        bar[COUNT] += 1.0
        if not math.isnan(quotes[i, 4]):
            # A trade without a size counts as one unit, as in the feature kernel.
            units = 1.0 if math.isnan(quotes[i, 5]) else quotes[i, 5]
            bar[VOLUME_SUM] += units
            bar[VALUE_SUM] += units * quotes[i, 4]
        full = (
            kind == EVERY
            or (kind == TICK and bar[COUNT] >= size)
            or (kind == VOLUME and bar[VOLUME_SUM] >= size)
            or (kind == DOLLAR and bar[VALUE_SUM] >= size)
        )
        if full:
            closed[i] = True
            write(bar, values[i])


@njit(cache=True, nogil=True)
def write(bar: FloatArray, out: FloatArray) -> None:
    """The bar that ends, and an empty one in its place."""
    out[0], out[1], out[2], out[3], out[4] = bar[OPEN], bar[HIGH], bar[LOW], bar[VOLUME_SUM], bar[COUNT]
    bar[VOLUME_SUM] = bar[VALUE_SUM] = bar[COUNT] = 0.0
