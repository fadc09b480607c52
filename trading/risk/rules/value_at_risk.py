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
from trading.compiled import inline
from trading.risk.limits import LimitRow
from trading.risk.measures import at_least_exit, is_reducing, off, passes, price_of, within
from trading.risk.model import BROKEN, Account, CheckResult, Order, Position, RollingWindows
from trading.risk.proof import PRICE, Begin, Shown, set_limit

NAME, UNIT = "value_at_risk", "money"
PARAMETERS = ("max_value_at_risk", "var_method", "var_confidence", "var_interval_s", "var_min_bars")
REGULATION = "CRR art. 365; SEC 18f-4: limit on fund leverage risk"
ON_MISSING_DATA = "denies until the symbol has `var_min_bars` returns"
HISTORICAL = 1.0
STEPS = 40


@inline
def check(
    order: Order, position: Position, account: Account, windows: RollingWindows, limits: LimitRow
) -> CheckResult:
    """An order that lowers the risk passes, whatever the risk is."""
    limit = limits.max_value_at_risk
    if math.isinf(limit):
        return off()
    if position.bars < limits.var_min_bars or account.unpriced > 0:
        value = np.nan
        return (
            passes(value, limit)
            if is_reducing(order, position)
            else at_least_exit(within(value, limit, 0.0), order, position)
        )
    price, bars = price_of(order, position), min(account.bars, len(windows.scenarios))
    value = loss(windows, bars, order.quantity * price, limits)
    found = within(value, limit, 0.0)
    if found.result != BROKEN:
        return found
    before = loss(windows, bars, 0.0, limits)
    if is_reducing(order, position) or value < before:
        return passes(value, limit)
    if before <= limit and math.isfinite(value):
        found = CheckResult(found.result, value, limit, largest(order, windows, bars, price, limits))
    return at_least_exit(found, order, position)


@inline
def largest(order: Order, windows: RollingWindows, bars: int, price: float, limits: LimitRow) -> float:
    """The largest quantity within the limit: risk is convex in it, or nearly so; found by halving."""
    low, high, side = 0.0, abs(order.quantity), 1.0 if order.quantity > 0.0 else -1.0
    for _ in range(STEPS):
        middle = 0.5 * (low + high)
        if loss(windows, bars, side * middle * price, limits) <= limits.max_value_at_risk:
            low = middle
        else:
            high = middle
    return low


@inline
def loss(windows: RollingWindows, bars: int, more: float, limits: LimitRow) -> float:
    """Value at risk when the symbol's exposure grows by `more` money."""
    if limits.var_method == HISTORICAL:
        return historical(windows.scenarios, windows.returns, bars, more, 1.0 - limits.var_confidence)
    total = 0.0
    for k in range(bars):
        earned = windows.scenarios[k] + more * windows.returns[k]
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


def prove(begin: Begin) -> Shown:
    """An order that must be denied, and one that must pass."""
    case = begin()
    for k in range(case.limits.var_min_bars + 1):
        case.tick(PRICE * (1.01 if k % 2 else 1.0), after_s=case.limits.var_interval_s)
    # A bar moves by one percent: this much of the book loses the limit in one.
    units = set_limit(case.limits.max_value_at_risk) / (0.01 * PRICE)
    large, small = 100.0 * units, units / 100.0
    return (f"buy {large:,.6g}", case.order(large)), (f"buy {small:,.6g}", case.order(small))
