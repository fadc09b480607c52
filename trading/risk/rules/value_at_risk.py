"""What the book, after the order, loses over one bar at the given confidence, in money.

Both methods take the same scenarios: what the exposures after the order would have earned in each of
the last bars. Historical: the loss that a share of (1 - confidence) of them exceeds, the k-th largest
with k = floor((1 - confidence) x bars) + 1. Parametric (delta-normal, zero mean): z x their root mean
square, which is z x sqrt(w' S w) with S the second moments of the returns, all correlations included
(J.P. Morgan, RiskMetrics Technical Document, 4th edition, 1996, sections 5 and 6).
"""

from __future__ import annotations

import math

import numpy as np

from trading.arrays import FloatArray
from trading.risk.limits import LimitRow
from trading.risk.model import (
    BROKEN,
    Account,
    Finding,
    Line,
    Order,
    Past,
    at_least_exit,
    exits,
    inline,
    off,
    passes,
    price_of,
    rule,
    within,
)

NAME, UNIT = "value_at_risk", "money"
PARAMETERS = ("max_value_at_risk", "var_method", "var_confidence", "var_interval_s", "var_min_bars")
SERVES = "CRR art. 365; SEC 18f-4: limit on fund leverage risk"
BLIND = "denies until the symbol has `var_min_bars` returns"
HISTORICAL = 1.0
STEPS = 40


@rule
def check(order: Order, line: Line, account: Account, past: Past, limits: LimitRow) -> Finding:
    """An order that lowers the risk passes, whatever the risk is."""
    limit = limits.max_value_at_risk
    if math.isinf(limit):
        return off()
    if line.bars < limits.var_min_bars or account.unpriced > 0:
        value = np.nan
        return passes(value, limit) if exits(order, line) else at_least_exit(within(value, limit, 0.0), order, line)
    price, bars = price_of(order, line), min(account.bars, len(past.scenarios))
    value = loss(past, bars, order.quantity * price, limits)
    found = within(value, limit, 0.0)
    if found.result != BROKEN:
        return found
    before = loss(past, bars, 0.0, limits)
    if exits(order, line) or value < before:
        return passes(value, limit)
    if before <= limit and math.isfinite(value):
        found = Finding(found.result, value, limit, largest(order, past, bars, price, limits))
    return at_least_exit(found, order, line)


@inline
def largest(order: Order, past: Past, bars: int, price: float, limits: LimitRow) -> float:
    """The largest quantity within the limit: risk is convex in it, or nearly so; found by halving."""
    low, high, side = 0.0, abs(order.quantity), 1.0 if order.quantity > 0.0 else -1.0
    for _ in range(STEPS):
        middle = 0.5 * (low + high)
        if loss(past, bars, side * middle * price, limits) <= limits.max_value_at_risk:
            low = middle
        else:
            high = middle
    return low


@inline
def loss(past: Past, bars: int, more: float, limits: LimitRow) -> float:
    """Value at risk when the symbol's exposure grows by `more` money."""
    if limits.var_method == HISTORICAL:
        return historical(past.scenarios, past.returns, bars, more, 1.0 - limits.var_confidence)
    total = 0.0
    for k in range(bars):
        earned = past.scenarios[k] + more * past.returns[k]
        total += earned * earned
    return limits.var_quantile * math.sqrt(total / bars)


@inline
def historical(scenarios: FloatArray, returns: FloatArray, bars: int, more: float, tail: float) -> float:
    """The k-th largest loss; 0 where that is a gain."""
    # A share such as 0.01 of 100 bars is one bar, whatever its last binary place says.
    worst = np.full(int(math.floor(tail * bars + 1e-9)) + 1, np.inf)
    for k in range(bars):
        earned = scenarios[k] + more * returns[k]
        place = len(worst) - 1
        if earned < worst[place]:
            while place > 0 and worst[place - 1] > earned:
                worst[place] = worst[place - 1]
                place -= 1
            worst[place] = earned
    return max(0.0, -worst[-1])
