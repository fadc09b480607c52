"""The compiled feature recursion: one tick in, one row out, constant memory per symbol.

Strictly sequential and free of fast-math, so that one tick at a time, any split into batches
and the whole history give the same bits. The formulas are documented in `definitions.py`.
"""

from __future__ import annotations

import math

import numpy as np

from trading.arrays import Float32Array, FloatArray, Int64Array
from trading.compiled import entry, inline
from trading.features.definitions import COLUMN, FEATURES
from trading.market import ASK, BID, LAST, MID, QUOTE_ASK, QUOTE_BID, TRADE_PRICE, TRADE_SIZE

SECOND_NS = 1_000_000_000
DAY_NS = 86_400 * SECOND_NS
WEEK_NS = 7 * DAY_NS
#: 1970-01-01 was a Thursday; shifting by three days makes weeks begin on Monday.
MONDAY_SHIFT_NS = 3 * DAY_NS

#: Return horizons: 1 s, 10 s, 1 min, 10 min, 1 h, 1 d, 5 d, 20 d.
HORIZONS_NS = np.array([1, 10, 60, 600, 3_600, 86_400, 432_000, 1_728_000], np.int64) * SECOND_NS
N_HORIZONS = len(HORIZONS_NS)
#: A horizon is sampled on a grid of an eighth of itself; 9 slots span it wholly.
GRID = 8
SLOTS = GRID + 1
STEPS_NS = HORIZONS_NS // GRID
#: Horizons that a rolling high is kept for: 10 min and 20 d.
HIGH_HORIZONS = np.array([3, 7], np.int64)
N_HIGHS = len(HIGH_HORIZONS)
#: Half-lives of what decays by event time: 10 s, 10 min, 1 d, 20 d.
HALF_LIVES_NS = np.array([10, 600, 86_400, 1_728_000], np.float64) * SECOND_NS
N_DECAYS = len(HALF_LIVES_NS)

# int64 state of a symbol: ticks, ticks with a known mid, latest event time, when each side of the
# quote was last stated, current grid cell of each horizon.
I_COUNT, I_PRICED, I_TIME, I_BID_TIME, I_ASK_TIME, I_CELL = 0, 1, 2, 3, 4, 5
INT_WIDTH = I_CELL + N_HORIZONS

# float64 state of a symbol.
S_BID, S_ASK, S_BID_SIZE, S_ASK_SIZE, S_LAST = 0, 1, 2, 3, 4
S_MID, S_LOG_MID = 5, 6
S_RING = 7
S_HIGH = S_RING + N_HORIZONS * SLOTS
S_VARIANCE = S_HIGH + N_HIGHS * SLOTS
S_FLOW = S_VARIANCE + N_DECAYS
S_VOLUME = S_FLOW + 2
S_RATE = S_VOLUME + 2
S_SIDE = S_RATE + 1
S_SPREAD_MEAN, S_SPREAD_VAR = S_SIDE + 1, S_SIDE + 2
S_GAIN, S_LOSS, S_RANGE = S_SIDE + 3, S_SIDE + 4, S_SIDE + 5
S_EMA12, S_EMA26, S_SIGNAL = S_SIDE + 6, S_SIDE + 7, S_SIDE + 8
S_BAND_MEAN, S_BAND_VAR, S_RETURN_VAR = S_SIDE + 9, S_SIDE + 10, S_SIDE + 11
FLOAT_WIDTH = S_SIDE + 12

# Columns of the row that is written; where several follow one another, the first.
RETURNS, VOLATILITIES = COLUMN["return_1s"], COLUMN["volatility_10s"]
TRADE_FLOWS, DRAWDOWNS = COLUMN["trade_flow_10s"], COLUMN["drawdown_10m"]
SPREAD = COLUMN["spread_bps"]
SPREAD_ZSCORE = COLUMN["spread_zscore"]
SIZE_IMBALANCE = COLUMN["size_imbalance"]
MICROPRICE_DEVIATION = COLUMN["microprice_deviation_bps"]
TICK_RATE = COLUMN["tick_rate"]
RSI = COLUMN["rsi_14"]
MACD = COLUMN["macd"]
MACD_HISTOGRAM = COLUMN["macd_histogram"]
RANGE = COLUMN["range_14"]
BOLLINGER_POSITION = COLUMN["bollinger_position"]
DAY_SIN = COLUMN["time_of_day_sin"]
DAY_COS = COLUMN["time_of_day_cos"]
WEEK_SIN = COLUMN["week_sin"]
WEEK_COS = COLUMN["week_cos"]
LOG_GAP = COLUMN["log_gap"]
RETURN_ZSCORE = COLUMN["return_zscore"]
N_FEATURES = len(FEATURES)
TINY = 1e-12


@inline
def observe_quote(state: FloatArray, quote: FloatArray) -> float:
    """Take over what the tick knows; return the new mid (NaN while none is known)."""
    for k in range(4):
        if not math.isnan(quote[k]):
            state[S_BID + k] = quote[k]
    if not math.isnan(state[S_BID]) and not math.isnan(state[S_ASK]):
        return 0.5 * (state[S_BID] + state[S_ASK])
    if not math.isnan(quote[TRADE_PRICE]):
        return float(quote[TRADE_PRICE])
    return float(state[S_MID])


@inline
def trade_side(state: FloatArray, price: float) -> float:
    """Lee and Ready (1991): quote rule against the standing mid, else tick rule."""
    has_quote = not math.isnan(state[S_BID]) and not math.isnan(state[S_ASK])
    reference = state[S_MID] if has_quote else state[S_LAST]
    if price > reference:
        return 1.0
    if price < reference:
        return -1.0
    if has_quote and not math.isnan(state[S_LAST]) and price != state[S_LAST]:
        return 1.0 if price > state[S_LAST] else -1.0
    return float(state[S_SIDE])


@inline
def begin_symbol(ints: Int64Array, state: FloatArray, time_ns: int, log_mid: float) -> None:
    """The first known mid: every look-back begins here."""
    for h in range(N_HORIZONS):
        ints[I_CELL + h] = time_ns // STEPS_NS[h]
        for k in range(SLOTS):
            state[S_RING + h * SLOTS + k] = log_mid
    for k in range(N_HIGHS * SLOTS):
        state[S_HIGH + k] = log_mid
    state[S_LOG_MID] = log_mid
    state[S_EMA12] = log_mid
    state[S_EMA26] = log_mid
    state[S_BAND_MEAN] = log_mid


@inline
def advance_grids(ints: Int64Array, state: FloatArray, time_ns: int, before: float) -> None:
    """Fill the grid points passed since the last tick with the mid that stood there."""
    for h in range(N_HORIZONS):
        cell = time_ns // STEPS_NS[h]
        old = ints[I_CELL + h]
        if cell == old:
            continue
        first = max(old + 1, cell - GRID)
        for k in range(first, cell + 1):
            state[S_RING + h * SLOTS + k % SLOTS] = before
        for j in range(N_HIGHS):
            if HIGH_HORIZONS[j] == h:
                for k in range(first, cell + 1):
                    state[S_HIGH + j * SLOTS + k % SLOTS] = before
        ints[I_CELL + h] = cell


@inline
def standardise(value: float, mean: float, variance: float) -> float:
    """In standard deviations; 0 where there is no deviation."""
    deviation = math.sqrt(variance)
    return (value - mean) / deviation if deviation > TINY else 0.0


@inline
def update_one(
    ints: Int64Array, state: FloatArray, event_time_ns: int, quote: FloatArray, out: Float32Array
) -> None:
    """Take one tick of a symbol; `out` is its row."""
    out[:] = 0.0
    ints[I_COUNT] += 1
    known_before = not math.isnan(state[S_MID])
    # Time does not run backwards: a late tick is taken at the latest time seen.
    time_ns = max(event_time_ns, ints[I_TIME])
    gap_ns = time_ns - ints[I_TIME] if ints[I_COUNT] > 1 else 0
    ints[I_TIME] = time_ns

    if not math.isnan(quote[QUOTE_BID]):
        ints[I_BID_TIME] = time_ns
    if not math.isnan(quote[QUOTE_ASK]):
        ints[I_ASK_TIME] = time_ns
    mid = observe_quote(state, quote)
    traded = not math.isnan(quote[TRADE_PRICE])
    decays = np.ones(N_DECAYS)
    if gap_ns > 0:
        for d in range(N_DECAYS):
            decays[d] = 2.0 ** (-gap_ns / HALF_LIVES_NS[d])

    # What needs no price: rate, gap, calendar.
    state[S_RATE] = state[S_RATE] * decays[0] + 1.0
    out[TICK_RATE] = math.log1p(state[S_RATE] * math.log(2.0) / (HALF_LIVES_NS[0] / SECOND_NS))
    out[LOG_GAP] = math.log1p(gap_ns / SECOND_NS)
    day = 2.0 * math.pi * (time_ns % DAY_NS) / DAY_NS
    week = 2.0 * math.pi * ((time_ns + MONDAY_SHIFT_NS) % WEEK_NS) / WEEK_NS
    out[DAY_SIN] = math.sin(day)
    out[DAY_COS] = math.cos(day)
    out[WEEK_SIN] = math.sin(week)
    out[WEEK_COS] = math.cos(week)
    if math.isnan(mid):
        return

    ints[I_PRICED] += 1
    log_mid = math.log(mid)
    if not known_before:
        begin_symbol(ints, state, time_ns, log_mid)
    before = state[S_LOG_MID]
    change = log_mid - before
    state[S_MID] = mid
    state[S_LOG_MID] = log_mid

    advance_grids(ints, state, time_ns, before)
    for h in range(N_HORIZONS):
        anchor = (ints[I_CELL + h] - GRID) % SLOTS
        out[RETURNS + h] = log_mid - state[S_RING + h * SLOTS + anchor]
    for j in range(N_HIGHS):
        slot = S_HIGH + j * SLOTS + ints[I_CELL + HIGH_HORIZONS[j]] % SLOTS
        state[slot] = max(state[slot], log_mid)
        high = state[S_HIGH + j * SLOTS]
        for k in range(1, SLOTS):
            high = max(high, state[S_HIGH + j * SLOTS + k])
        out[DRAWDOWNS + j] = log_mid - high

    for d in range(N_DECAYS):
        state[S_VARIANCE + d] = state[S_VARIANCE + d] * decays[d] + change * change
        out[VOLATILITIES + d] = math.sqrt(state[S_VARIANCE + d])

    if not math.isnan(state[S_BID]) and not math.isnan(state[S_ASK]):
        spread = (state[S_ASK] - state[S_BID]) / mid
        if math.isnan(state[S_SPREAD_MEAN]):
            state[S_SPREAD_MEAN] = spread
        diff = spread - state[S_SPREAD_MEAN]
        state[S_SPREAD_MEAN] += diff * 2.0 / 257.0
        state[S_SPREAD_VAR] = (1.0 - 2.0 / 257.0) * (state[S_SPREAD_VAR] + diff * diff * 2.0 / 257.0)
        out[SPREAD] = 1e4 * spread
        out[SPREAD_ZSCORE] = standardise(spread, state[S_SPREAD_MEAN], state[S_SPREAD_VAR])
        depth = state[S_BID_SIZE] + state[S_ASK_SIZE]
        if depth > 0.0:
            out[SIZE_IMBALANCE] = (state[S_BID_SIZE] - state[S_ASK_SIZE]) / depth
            micro = (state[S_BID] * state[S_ASK_SIZE] + state[S_ASK] * state[S_BID_SIZE]) / depth
            out[MICROPRICE_DEVIATION] = 1e4 * (micro - mid) / mid

    size = 0.0
    if traded:
        if not math.isnan(state[S_LAST]) or not math.isnan(state[S_BID]):
            state[S_SIDE] = trade_side(state, quote[TRADE_PRICE])
        # An unknown size counts as one unit: the flow is then a flow of trades.
        size = 1.0 if math.isnan(quote[TRADE_SIZE]) else quote[TRADE_SIZE]
        state[S_LAST] = quote[TRADE_PRICE]
    for d in range(2):
        state[S_FLOW + d] = state[S_FLOW + d] * decays[d] + state[S_SIDE] * size
        state[S_VOLUME + d] = state[S_VOLUME + d] * decays[d] + size
        if state[S_VOLUME + d] > TINY:
            out[TRADE_FLOWS + d] = state[S_FLOW + d] / state[S_VOLUME + d]

    state[S_GAIN] += (max(change, 0.0) - state[S_GAIN]) / 14.0
    state[S_LOSS] += (max(-change, 0.0) - state[S_LOSS]) / 14.0
    moved = state[S_GAIN] + state[S_LOSS]
    if moved > TINY:
        out[RSI] = (state[S_GAIN] - state[S_LOSS]) / moved
    state[S_EMA12] += (log_mid - state[S_EMA12]) * 2.0 / 13.0
    state[S_EMA26] += (log_mid - state[S_EMA26]) * 2.0 / 27.0
    macd = state[S_EMA12] - state[S_EMA26]
    state[S_SIGNAL] += (macd - state[S_SIGNAL]) * 2.0 / 10.0
    out[MACD] = macd
    out[MACD_HISTOGRAM] = macd - state[S_SIGNAL]
    state[S_RANGE] += (abs(change) - state[S_RANGE]) / 14.0
    out[RANGE] = state[S_RANGE]

    alpha = 2.0 / 21.0
    diff = log_mid - state[S_BAND_MEAN]
    state[S_BAND_MEAN] += alpha * diff
    state[S_BAND_VAR] = (1.0 - alpha) * (state[S_BAND_VAR] + alpha * diff * diff)
    out[BOLLINGER_POSITION] = 0.5 * standardise(log_mid, state[S_BAND_MEAN], state[S_BAND_VAR])
    state[S_RETURN_VAR] = (1.0 - alpha) * state[S_RETURN_VAR] + alpha * change * change
    out[RETURN_ZSCORE] = standardise(change, 0.0, state[S_RETURN_VAR])


@entry
def update_states(
    ints: Int64Array,
    floats: FloatArray,
    rows: Int64Array,
    event_time_ns: Int64Array,
    quotes: FloatArray,
    out: Float32Array,
    market: FloatArray,
    priced: Int64Array,
    quote_time_ns: Int64Array,
) -> None:
    """Feed n ticks in order.

    Args:
        ints: int64 [symbols, INT_WIDTH], changed in place.
        floats: float64 [symbols, FLOAT_WIDTH], changed in place.
        rows: int64 [n], the state row of each tick.
        event_time_ns: int64 [n].
        quotes: float64 [n, 6], see `TickBatch`.
        out: float32 [n, N_FEATURES], written.
        market: float64 [n, 4], written: standing bid, ask, latest trade, mid; NaN is unknown.
        priced: int64 [n], written: ticks of the symbol with a known mid so far.
        quote_time_ns: int64 [n], written: when the older side of the standing quote was stated; the
            tick's own time where there is no quote.
    """
    for i in range(len(rows)):
        row = rows[i]
        state = floats[row]
        update_one(ints[row], state, event_time_ns[i], quotes[i], out[i])
        market[i, BID] = state[S_BID]
        market[i, ASK] = state[S_ASK]
        market[i, LAST] = state[S_LAST]
        market[i, MID] = state[S_MID]
        priced[i] = ints[row, I_PRICED]
        quoted = not math.isnan(state[S_BID]) and not math.isnan(state[S_ASK])
        quote_time_ns[i] = min(ints[row, I_BID_TIME], ints[row, I_ASK_TIME]) if quoted else event_time_ns[i]
