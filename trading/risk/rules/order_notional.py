"""abs(quantity) x price of one order, in money; the price is the touch on the order's own far side."""

from __future__ import annotations

import math

from trading.risk.limits import LimitRow
from trading.risk.model import Account, Finding, Line, Order, Past, off, price_of, rule, within

NAME, UNIT, PARAMETERS = "order_notional", "money", ("max_order_notional",)
SERVES = "RTS 6 art. 15(1)(b): maximum order value; SEC 15c3-5(c)(1)(ii)"
BLIND = "denies: no quote, no order"


@rule
def check(order: Order, line: Line, account: Account, past: Past, limits: LimitRow) -> Finding:
    """Clips to what the limit buys."""
    if math.isinf(limits.max_order_notional):
        return off()
    price = price_of(order, line)
    allowed = limits.max_order_notional / price if price > 0.0 else 0.0
    return within(abs(order.quantity) * price, limits.max_order_notional, allowed)
