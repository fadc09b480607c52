"""abs(position + working orders + order) x price of the symbol, in money."""

from __future__ import annotations

import math

from trading.compiled import inline
from trading.risk.limits import LimitRow
from trading.risk.measures import (
    at_least_exit,
    is_reducing,
    passes,
    price_of,
    resulting_position,
    room_on_side,
    within,
)
from trading.risk.model import Account, CheckResult, Order, Position, RollingWindows
from trading.risk.proof import PRICE, Begin, Shown, beyond

NAME, UNIT, PARAMETERS = "position_limit", "money", ("max_position_notional",)
REGULATION = "RTS 6 art. 15(4): market risk limits; SEC 15c3-5(c)(1)(i)"
ON_MISSING_DATA = "denies: no price, no position"
ALWAYS_ON = True


@inline
def check(
    order: Order, position: Position, account: Account, windows: RollingWindows, limits: LimitRow
) -> CheckResult:
    """Everything that works on the order's side counts as filled."""
    price = price_of(order, position)
    value, limit = abs(resulting_position(order, position)) * price, limits.max_position_notional
    if is_reducing(order, position) and math.isfinite(value):
        return passes(value, limit)
    allowed = room_on_side(order, position, limit / price) if price > 0.0 else 0.0
    return at_least_exit(within(value, limit, allowed), order, position)


def prove(begin: Begin) -> Shown:
    """An order that must be denied, and one that must pass."""
    case = begin()
    return beyond(case, case.limits.max_position_notional / PRICE)
