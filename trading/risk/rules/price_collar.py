"""The order's price must lie near the middle of the market: abs(price - mid) / mid."""

from __future__ import annotations

import math

from trading.risk.limits import LimitRow
from trading.risk.model import Account, Finding, Line, Order, Past, off, rule, within

NAME, UNIT, PARAMETERS = "price_collar", "share", ("price_collar",)
SERVES = "RTS 6 art. 15(1)(a): price collars; SEC 15c3-5(c)(1)(ii)"
BLIND = "denies: without a mid there is nothing to be near to"


@rule
def check(order: Order, line: Line, account: Account, past: Past, limits: LimitRow) -> Finding:
    """The limit price where there is one, else the touch: a quote wider than the collar is not crossed."""
    if math.isinf(limits.price_collar):
        return off()
    price = order.price if math.isnan(order.limit_price) else order.limit_price
    apart = abs(price - order.mid) / order.mid if order.mid > 0.0 else math.nan
    return within(apart, limits.price_collar, 0.0)
