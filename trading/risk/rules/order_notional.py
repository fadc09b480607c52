"""abs(quantity) x price of one order, in money; the price is the touch on the order's own far side."""

from __future__ import annotations

import math

from trading.compiled import inline
from trading.risk.limits import LimitRow
from trading.risk.measures import off, price_of, within
from trading.risk.model import Account, CheckResult, Order, Position, RollingWindows
from trading.risk.proof import PRICE, Begin, Shown, beyond, set_limit

NAME, UNIT, PARAMETERS = "order_notional", "money", ("max_order_notional",)
REGULATION = "RTS 6 art. 15(1)(b): maximum order value; SEC 15c3-5(c)(1)(ii)"
ON_MISSING_DATA = "denies: no quote, no order"


@inline
def check(
    order: Order, position: Position, account: Account, windows: RollingWindows, limits: LimitRow
) -> CheckResult:
    """Clips to what the limit buys."""
    if math.isinf(limits.max_order_notional):
        return off()
    price = price_of(order, position)
    allowed = limits.max_order_notional / price if price > 0.0 else 0.0
    return within(abs(order.quantity) * price, limits.max_order_notional, allowed)


def prove(begin: Begin) -> Shown:
    """An order that must be denied, and one that must pass."""
    case = begin()
    return beyond(case, set_limit(case.limits.max_order_notional) / PRICE)
