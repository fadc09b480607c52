"""abs(position + working orders + order) x price of the symbol, in money."""

from __future__ import annotations

import math

from trading.risk.limits import LimitRow
from trading.risk.model import (
    Account,
    Finding,
    Line,
    Order,
    Past,
    at_least_exit,
    exits,
    passes,
    price_of,
    reach,
    room_on_side,
    rule,
    within,
)

NAME, UNIT, PARAMETERS = "position_limit", "money", ("max_position_notional",)
SERVES = "RTS 6 art. 15(4): market risk limits; SEC 15c3-5(c)(1)(i)"
BLIND = "denies: no price, no position"


@rule
def check(order: Order, line: Line, account: Account, past: Past, limits: LimitRow) -> Finding:
    """Everything that works on the order's side counts as filled."""
    price = price_of(order, line)
    value, limit = abs(reach(order, line)) * price, limits.max_position_notional
    if exits(order, line) and math.isfinite(value):
        return passes(value, limit)
    allowed = room_on_side(order, line, limit / price) if price > 0.0 else 0.0
    return at_least_exit(within(value, limit, allowed), order, line)
