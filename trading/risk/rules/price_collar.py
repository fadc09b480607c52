"""The order's price must lie near the middle of the market: abs(price - mid) / mid."""

from __future__ import annotations

import math

from trading.compiled import inline
from trading.risk.limits import LimitRow
from trading.risk.measures import off, within
from trading.risk.model import Account, CheckResult, Order, Position, RollingWindows
from trading.risk.proof import PRICE, Begin, Shown, set_limit

NAME, UNIT, PARAMETERS = "price_collar", "share", ("price_collar",)
REGULATION = "RTS 6 art. 15(1)(a): price collars; SEC 15c3-5(c)(1)(ii)"
ON_MISSING_DATA = "denies: without a mid there is nothing to be near to"


@inline
def check(
    order: Order, position: Position, account: Account, windows: RollingWindows, limits: LimitRow
) -> CheckResult:
    """The limit price where there is one, else the touch: a quote wider than the collar is not crossed."""
    if math.isinf(limits.price_collar):
        return off()
    price = order.price if math.isnan(order.limit_price) else order.limit_price
    apart = abs(price - order.mid) / order.mid if order.mid > 0.0 else math.nan
    return within(apart, limits.price_collar, 0.0)


def prove(begin: Begin) -> Shown:
    """An order that must be denied, and one that must pass."""
    case = begin()
    far, near = (PRICE * (1 + share * set_limit(case.limits.price_collar)) for share in (1.5, 0.5))
    return (
        (f"buy 1 at {far:g} with a mid of 100", case.order(1.0, price=far, mid=PRICE)),
        (f"buy 1 at {near:g} with a mid of 100", case.order(1.0, price=near, mid=PRICE)),
    )
