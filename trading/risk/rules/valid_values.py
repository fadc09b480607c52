"""Prices and quantities must be finite and positive, and the quote must not be crossed."""

from __future__ import annotations

import math

from trading.risk.limits import LimitRow
from trading.risk.model import Account, Finding, Line, Order, Past, flag, price_of, rule

NAME, UNIT, PARAMETERS = "valid_values", "", ()
SERVES = "SEC 15c3-5(c)(1)(ii): erroneous orders"
BLIND = "denies: an unknown price or currency rate is not a price"


@rule
def check(order: Order, line: Line, account: Account, past: Past, limits: LimitRow) -> Finding:
    """Deny an order that no arithmetic can be trusted with."""
    price = price_of(order, line)
    priced = math.isfinite(price) and price > 0.0 and math.isfinite(order.price) and line.rate > 0.0
    sized = math.isfinite(order.quantity) and order.quantity != 0.0 and math.isfinite(line.position)
    # NaN compares false: an unknown quote is not a crossed one, an absent limit price is no wrong one.
    wrong = order.bid > order.ask or order.limit_price <= 0.0 or math.isinf(order.limit_price)
    return flag(priced and sized and not wrong, 0.0)
