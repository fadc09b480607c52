"""abs(quantity) of one order, in units."""

from __future__ import annotations

import math

from trading.risk.limits import LimitRow
from trading.risk.model import Account, Finding, Line, Order, Past, off, rule, within

NAME, UNIT, PARAMETERS = "order_size", "units", ("max_order_quantity",)
SERVES = "RTS 6 art. 15(1)(c): maximum order volume; SEC 15c3-5(c)(1)(ii)"
BLIND = "denies"


@rule
def check(order: Order, line: Line, account: Account, past: Past, limits: LimitRow) -> Finding:
    """Clips to the limit."""
    if math.isinf(limits.max_order_quantity):
        return off()
    return within(abs(order.quantity), limits.max_order_quantity, limits.max_order_quantity)
