"""abs(quantity) of one order, in units."""

from __future__ import annotations

import math

from trading.compiled import inline
from trading.risk.limits import LimitRow
from trading.risk.measures import off, within
from trading.risk.model import Account, CheckResult, Order, Position, RollingWindows
from trading.risk.proof import Begin, Shown, beyond, set_limit

NAME, UNIT, PARAMETERS = "order_size", "units", ("max_order_quantity",)
REGULATION = "RTS 6 art. 15(1)(c): maximum order volume; SEC 15c3-5(c)(1)(ii)"
ON_MISSING_DATA = "denies"


@inline
def check(
    order: Order, position: Position, account: Account, windows: RollingWindows, limits: LimitRow
) -> CheckResult:
    """Clips to the limit."""
    if math.isinf(limits.max_order_quantity):
        return off()
    return within(abs(order.quantity), limits.max_order_quantity, limits.max_order_quantity)


def prove(begin: Begin) -> Shown:
    """An order that must be denied, and one that must pass."""
    case = begin()
    return beyond(case, set_limit(case.limits.max_order_quantity))
