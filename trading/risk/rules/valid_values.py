"""Prices and quantities must be finite and positive, and the quote must not be crossed."""

from __future__ import annotations

import math

from trading.compiled import inline
from trading.risk.limits import LimitRow
from trading.risk.measures import flag, price_of
from trading.risk.model import Account, CheckResult, Order, Position, RollingWindows
from trading.risk.proof import Begin, Shown

NAME, UNIT, PARAMETERS = "valid_values", "", ()
REGULATION = "SEC 15c3-5(c)(1)(ii): erroneous orders"
ON_MISSING_DATA = "denies: an unknown price or currency rate is not a price"
ALWAYS_ON = True


@inline
def check(
    order: Order, position: Position, account: Account, windows: RollingWindows, limits: LimitRow
) -> CheckResult:
    """Deny an order that no arithmetic can be trusted with."""
    price = price_of(order, position)
    priced = math.isfinite(price) and price > 0.0 and math.isfinite(order.price) and position.rate > 0.0
    sized = math.isfinite(order.quantity) and order.quantity != 0.0 and math.isfinite(position.quantity)
    # NaN compares false: an unknown quote is not a crossed one, an absent limit price is no wrong one.
    wrong = order.bid > order.ask or order.limit_price <= 0.0 or math.isinf(order.limit_price)
    return flag(priced and sized and not wrong, 0.0)


def prove(begin: Begin) -> Shown:
    """An order that must be denied, and one that must pass."""
    case = begin()
    return ("buy 1 at an unknown price", case.order(1.0, price=math.nan)), ("buy 1 at 100", case.order(1.0))
