"""What came after each row: the triple barrier, in event time, and how much of it is a row's own.

From a row two prices and a time are watched: a profit and a loss barrier, each so many deviations of the return
over the horizon away, and the horizon's end. The first that is met ends the label (Lopez de Prado 2018, Advances in
Financial Machine Learning, 3.4). The path is that of every tick, whichever ticks are rows.

The deviation is the kernel's own event-time variance, scaled to the horizon: V, the sum of squared returns decayed
with half-life h, is near s^2 h / ln 2 at a rate of s^2 a second, and s^2 (h / ln 2)(1 - 2^(-t/h)) after t seconds.
"""

from __future__ import annotations

import numpy as np
from msgspec import Struct
from numba import njit

from trading.arrays import BoolArray, Float32Array, FloatArray, Int64Array
from trading.features.definitions import FEATURES

#: The kernel's event-time variances, by half-life in ns.
HALF_LIVES = {
    "volatility_10s": 10_000_000_000,
    "volatility_10m": 600_000_000_000,
    "volatility_1d": 86_400_000_000_000,
    "volatility_20d": 1_728_000_000_000_000,
}
#: A deviation below this is no movement: float noise, or a price that stands still.
MIN_DEVIATION = 1e-9
UP, DOWN, TIME = 1, -1, 0


class Barriers(Struct, frozen=True):
    """`up` and `down` in deviations of the return over `horizon_ns`."""

    horizon_ns: int
    up: float = 2.0
    down: float = 2.0


class Labels(Struct, frozen=True):
    """For n rows.

    Attributes:
        side: int8 [n], 1 up first, -1 down first, 0 the horizon ended first.
        realised: float64 [n], log return to the end of the label.
        deviation: float64 [n], what a log return over the horizon was expected to deviate, known at the row.
        end_ns: int64 [n], event time at which the label, and the return to the next row, are known.
        valid: bool [n], whether the data reach so far and the price moves at all.
        next_log_return: float64 [n], to the symbol's next row; 0 for its last.
        has_next: bool [n].
        uniqueness: float64 [n], mean of 1 / (labels alive) over the label's life, in (0, 1]; 0 where not valid.
    """

    side: np.typing.NDArray[np.int8]
    realised: FloatArray
    deviation: FloatArray
    end_ns: Int64Array
    valid: BoolArray
    next_log_return: FloatArray
    has_next: BoolArray
    uniqueness: FloatArray


def nearest_variance(horizon_ns: int) -> str:
    """The volatility feature whose half-life is nearest to the horizon, on a logarithmic scale."""
    return min(HALF_LIVES, key=lambda name: abs(np.log(HALF_LIVES[name] / horizon_ns)))


def deviations(features: Float32Array, age_ns: Int64Array, horizon_ns: int) -> FloatArray:
    """Expected deviation of a log return over the horizon, float64 [n].

    Args:
        features: float32 [n, 32].
        age_ns: int64 [n], event time since the symbol's first tick.
        horizon_ns: of the label.
    """
    name = nearest_variance(horizon_ns)
    half_life = HALF_LIVES[name]
    variance = features[:, FEATURES.index(name)].astype(np.float64) ** 2
    seen = np.maximum(1.0 - 2.0 ** (-age_ns / half_life), 1e-6)
    found: FloatArray = np.sqrt(variance * np.log(2.0) / half_life / seen * horizon_ns)
    return found


@njit(cache=True, nogil=True)
def by_symbol(symbols: Int64Array, count: int) -> tuple[Int64Array, Int64Array]:
    """Where each of n ticks lies once they are grouped by symbol, in order; int64 [n], and the groups' ends."""
    ends = np.zeros(count, np.int64)
    for i in range(len(symbols)):
        ends[symbols[i]] += 1
    cursor = np.zeros(count, np.int64)
    for k in range(1, count):
        cursor[k] = cursor[k - 1] + ends[k - 1]
    place = np.empty(len(symbols), np.int64)
    for i in range(len(symbols)):
        place[i] = cursor[symbols[i]]
        cursor[symbols[i]] += 1
    return place, cursor


@njit(cache=True, nogil=True)
def triple_barrier(
    starts: Int64Array,
    group_ends: Int64Array,
    symbols: Int64Array,
    time_ns: Int64Array,
    log_mid: FloatArray,
    deviation: FloatArray,
    horizon_ns: int,
    up: float,
    down: float,
    side: np.typing.NDArray[np.int8],
    realised: FloatArray,
    end_ns: Int64Array,
    valid: BoolArray,
) -> None:
    """Write side, realised, end_ns and valid of n rows.

    Args:
        starts: int64 [n], where each row lies in the path.
        group_ends: int64 [symbols], where each symbol's path ends.
        symbols: int64 [n], of the rows.
        time_ns, log_mid: [m], the path, grouped by symbol; times do not step back within a symbol.
        deviation: float64 [n].
        horizon_ns, up, down: see `Barriers`.
        side, realised, end_ns, valid: [n], written.
    """
    for i in range(len(starts)):
        begin, end = starts[i], group_ends[symbols[i]]
        limit, price = time_ns[begin] + horizon_ns, log_mid[begin]
        side[i], realised[i], end_ns[i], valid[i] = TIME, 0.0, limit, False
        if not deviation[i] > MIN_DEVIATION:
            continue
        for j in range(begin + 1, end):
            if time_ns[j] > limit:
                valid[i] = True
                break
            realised[i] = log_mid[j] - price
            if realised[i] >= up * deviation[i]:
                side[i], end_ns[i], valid[i] = UP, time_ns[j], True
                break
            if realised[i] <= -down * deviation[i]:
                side[i], end_ns[i], valid[i] = DOWN, time_ns[j], True
                break


@njit(cache=True, nogil=True)
def uniqueness(
    order: Int64Array, group_ends: Int64Array, time_ns: Int64Array, end_ns: Int64Array, valid: BoolArray
) -> FloatArray:
    """Average uniqueness of each label (Lopez de Prado 2018, 4.2), float64 [n], among its symbol's rows.

    Args:
        order: int64 [n], rows grouped by symbol, in time order within a symbol.
        group_ends: int64 [symbols].
        time_ns, end_ns, valid: [n], of the rows.
    """
    n = len(order)
    found, alive = np.zeros(n), np.zeros(n + 1)
    last = np.zeros(n, np.int64)
    begin = 0
    for end in group_ends:
        for k in range(begin, end):
            row = order[k]
            if not valid[row]:
                continue
            # The last row of the symbol that lies within the label: found by bisection.
            low, high = k, end - 1
            while low < high:
                middle = (low + high + 1) // 2
                if time_ns[order[middle]] <= end_ns[row]:
                    low = middle
                else:
                    high = middle - 1
            last[k] = low
            alive[k] += 1.0
            alive[low + 1] -= 1.0
        begin = end
    total = np.zeros(n + 1)
    living = 0.0
    for k in range(n):
        living += alive[k]
        total[k + 1] = total[k] + (1.0 / living if living > 0.5 else 0.0)
    for k in range(n):
        if valid[order[k]]:
            found[order[k]] = (total[last[k] + 1] - total[k]) / (last[k] + 1 - k)
    return found


@njit(cache=True, nogil=True)
def next_returns(
    order: Int64Array, group_ends: Int64Array, time_ns: Int64Array, log_mid: FloatArray
) -> tuple[FloatArray, Int64Array, BoolArray]:
    """Log return to the symbol's next row, float64 [n]; its time, int64 [n]; whether there is one, bool [n]."""
    found, has_next = np.zeros(len(order)), np.zeros(len(order), np.bool_)
    when = time_ns.copy()
    begin = 0
    for end in group_ends:
        for k in range(begin, end - 1):
            found[order[k]] = log_mid[order[k + 1]] - log_mid[order[k]]
            when[order[k]] = time_ns[order[k + 1]]
            has_next[order[k]] = True
        begin = end
    return found, when, has_next
