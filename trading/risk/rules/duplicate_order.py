"""An order must not be sent twice: the same number, or the same side, quantity and price within a time."""

from __future__ import annotations

import math

from trading.compiled import inline
from trading.risk.limits import LimitRow
from trading.risk.measures import flag, off
from trading.risk.model import TINY, Account, CheckResult, Order, Position, RollingWindows
from trading.risk.proof import PRICE, Begin, Shown, set_limit
from trading.risk.rate import within_window

NAME, UNIT, PARAMETERS = "duplicate_order", "", ("duplicate_window_s",)
REGULATION = "SEC 15c3-5(c)(1)(ii): duplicative orders"
ON_MISSING_DATA = "denies what has no number of its own, and what more orders came before than are remembered"


@inline
def check(
    order: Order, position: Position, account: Account, windows: RollingWindows, limits: LimitRow
) -> CheckResult:
    """Compared with all of the symbol's accepted orders within the window; event time.

    So many are remembered as `max_symbol_orders` may be: where all of them lie within the window, that an older
    one was the same is not excluded, and the order is denied.
    """
    if math.isinf(limits.duplicate_window_s):
        return off()
    if position.orders == 0:
        return flag(order.number >= 0, 0.0)
    size = len(windows.order_ns)
    recent = within_window(windows.order_ns, position.orders, order.now_ns, limits.duplicate_window_s)
    passed = order.number > position.last_number and recent < size
    for back in range(1, recent + 1):
        quantity = windows.order_quantities[(position.orders - back) % size]
        price = windows.order_prices[(position.orders - back) % size]
        same_size = abs(order.quantity - quantity) <= TINY * abs(quantity)
        same_price = abs(order.price - price) <= TINY * abs(price)
        passed = passed and not (same_size and same_price)
    return flag(passed, 0.0)


def prove(begin: Begin) -> Shown:
    """An order that must be denied, and one that must pass."""
    case = begin()
    case.accept(1.0)
    denied = case.order(1.0)
    case.tick(PRICE, after_s=2 * set_limit(case.limits.duplicate_window_s))
    return ("buy 1 at 100, twice at once", denied), ("the same after twice the window", case.order(1.0))
