"""Gross exposure after the order / equity."""

from __future__ import annotations

import math

from trading.compiled import inline
from trading.risk.limits import LimitRow
from trading.risk.measures import (
    at_least_exit,
    equity,
    exposure_after,
    is_reducing,
    off,
    others_gross,
    passes,
    price_of,
    room_on_side,
    within,
)
from trading.risk.model import Account, CheckResult, Order, Position, RollingWindows
from trading.risk.proof import CAPITAL, PRICE, Begin, Shown, beyond, set_limit

NAME, UNIT, PARAMETERS = "leverage", "times", ("max_leverage",)
REGULATION = "AIFMD art. 25, ESMA CFD rules; the prime broker's terms"
ON_MISSING_DATA = "denies: what has no equity, or an unknown one, has no leverage"


@inline
def check(
    order: Order, position: Position, account: Account, windows: RollingWindows, limits: LimitRow
) -> CheckResult:
    """Marked to market: equity counts what is not realised."""
    limit = limits.max_leverage
    if math.isinf(limit):
        return off()
    own, others, price = equity(account), others_gross(position, account), price_of(order, position)
    value = (others + exposure_after(order, position)) / own if own > 0.0 else math.nan
    if is_reducing(order, position):
        return passes(value, limit)
    allowed = room_on_side(order, position, (limit * own - others) / price) if price > 0.0 else 0.0
    return at_least_exit(within(value, limit, allowed), order, position)


def prove(begin: Begin) -> Shown:
    """An order that must be denied, and one that must pass."""
    case = begin()
    return beyond(case, set_limit(case.limits.max_leverage) * CAPITAL / PRICE)
