"""abs of the signed sum over symbols after the order, in money."""

from __future__ import annotations

import math

from trading.risk.limits import LimitRow
from trading.risk.model import (
    Account,
    Finding,
    Line,
    Order,
    Past,
    at_least_exit,
    exits,
    off,
    passes,
    price_of,
    rule,
    within,
)

NAME, UNIT, PARAMETERS = "net_exposure", "money", ("max_net_notional",)
SERVES = "the mandate: how far the book may follow the market"
BLIND = "denies: a position without a mark cannot be added"


@rule
def check(order: Order, line: Line, account: Account, past: Past, limits: LimitRow) -> Finding:
    """An order that brings the sum nearer to zero passes, whatever the sum is."""
    limit = limits.max_net_notional
    if math.isinf(limit):
        return off()
    price = price_of(order, line)
    before = account.net if account.unpriced == 0 else math.nan
    after = before + order.quantity * price
    if exits(order, line) or abs(after) < abs(before):
        return passes(abs(after), limit)
    side = 1.0 if order.quantity > 0.0 else -1.0
    allowed = (limit - side * before) / price if price > 0.0 else 0.0
    return at_least_exit(within(abs(after), limit, allowed), order, line)
