"""An order must not be sent twice: the same number, or the same side, quantity and price within a time."""

from __future__ import annotations

import math

from trading.compiled import inline
from trading.risk.limits import LimitRow
from trading.risk.measures import flag, off
from trading.risk.model import SECOND, TINY, Account, CheckResult, Order, Position, RollingWindows
from trading.risk.proof import PRICE, Begin, Shown, set_limit

NAME, UNIT, PARAMETERS = "duplicate_order", "", ("duplicate_window_s",)
REGULATION = "SEC 15c3-5(c)(1)(ii): duplicative orders"
ON_MISSING_DATA = "denies what has no number of its own"


@inline
def check(
    order: Order, position: Position, account: Account, windows: RollingWindows, limits: LimitRow
) -> CheckResult:
    """Compared with the symbol's newest accepted order; event time."""
    if math.isinf(limits.duplicate_window_s):
        return off()
    if position.orders == 0:
        return flag(order.number >= 0, 0.0)
    recent = order.now_ns - position.last_ns < limits.duplicate_window_s * SECOND
    same_size = abs(order.quantity - position.last_quantity) <= TINY * abs(position.last_quantity)
    same_price = abs(order.price - position.last_price) <= TINY * abs(position.last_price)
    return flag(order.number > position.last_number and not (recent and same_size and same_price), 0.0)


def prove(begin: Begin) -> Shown:
    """An order that must be denied, and one that must pass."""
    case = begin()
    case.accept(1.0)
    denied = case.order(1.0)
    case.tick(PRICE, after_s=2 * set_limit(case.limits.duplicate_window_s))
    return ("buy 1 at 100, twice at once", denied), ("the same after twice the window", case.order(1.0))
