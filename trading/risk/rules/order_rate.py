"""Orders of the whole book within the window, this one included."""

from __future__ import annotations

import math

from trading.compiled import inline
from trading.risk.limits import LimitRow
from trading.risk.measures import off, within
from trading.risk.model import Account, CheckResult, Order, Position, RollingWindows
from trading.risk.proof import OTHER, SYMBOL, Begin, Shown, after_many, set_limit
from trading.risk.rate import within_window

NAME, UNIT, PARAMETERS = "order_rate", "orders", ("max_orders", "order_window_s")
REGULATION = "RTS 6 art. 15(1)(d): maximum messages"
ON_MISSING_DATA = "counts in event time, which every tick has"


@inline
def check(
    order: Order, position: Position, account: Account, windows: RollingWindows, limits: LimitRow
) -> CheckResult:
    """Every accepted order counts, whichever symbol it is of."""
    if math.isinf(limits.max_orders):
        return off()
    recent = within_window(windows.all_order_ns, account.orders, order.now_ns, limits.order_window_s)
    return within(recent + 1.0, limits.max_orders, 0.0)


def prove(begin: Begin) -> Shown:
    """An order that must be denied, and one that must pass."""
    return after_many(begin(), set_limit(begin().limits.max_orders), [SYMBOL, OTHER])
