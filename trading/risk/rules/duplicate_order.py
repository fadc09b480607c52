"""An order must not be sent twice: the same number, or the same side, quantity and price within a time."""

from __future__ import annotations

import math

from trading.risk.limits import LimitRow
from trading.risk.model import SECOND, TINY, Account, Finding, Line, Order, Past, flag, off, rule

NAME, UNIT, PARAMETERS = "duplicate_order", "", ("duplicate_window_s",)
SERVES = "SEC 15c3-5(c)(1)(ii): duplicative orders"
BLIND = "denies what has no number of its own"


@rule
def check(order: Order, line: Line, account: Account, past: Past, limits: LimitRow) -> Finding:
    """Compared with the symbol's newest accepted order; event time."""
    if math.isinf(limits.duplicate_window_s):
        return off()
    if line.orders == 0:
        return flag(order.number >= 0, 0.0)
    recent = order.now_ns - line.last_ns < limits.duplicate_window_s * SECOND
    same_size = abs(order.quantity - line.last_quantity) <= TINY * abs(line.last_quantity)
    same_price = abs(order.price - line.last_price) <= TINY * abs(line.last_price)
    return flag(order.number > line.last_number and not (recent and same_size and same_price), 0.0)
