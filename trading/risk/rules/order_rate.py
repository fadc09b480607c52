"""Orders of the whole book within the window, this one included."""

from __future__ import annotations

import math

from trading.risk.limits import LimitRow
from trading.risk.model import Account, Finding, Line, Order, Past, off, rule, within
from trading.risk.rate import within_window

NAME, UNIT, PARAMETERS = "order_rate", "orders", ("max_orders", "order_window_s")
SERVES = "RTS 6 art. 15(1)(d): maximum messages"
BLIND = "counts in event time, which every tick has"


@rule
def check(order: Order, line: Line, account: Account, past: Past, limits: LimitRow) -> Finding:
    """Every accepted order counts, whichever symbol it is of."""
    if math.isinf(limits.max_orders):
        return off()
    recent = within_window(past.all_order_ns, account.orders, order.now_ns, limits.order_window_s)
    return within(recent + 1.0, limits.max_orders, 0.0)
