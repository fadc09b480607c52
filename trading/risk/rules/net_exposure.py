"""abs of the signed sum over symbols after the order, in money."""

from __future__ import annotations

import math

from trading.compiled import inline
from trading.risk.limits import LimitRow
from trading.risk.measures import at_least_exit, is_reducing, off, passes, price_of, within
from trading.risk.model import Account, CheckResult, Order, Position, RollingWindows
from trading.risk.proof import PRICE, Begin, Shown, beyond, set_limit

NAME, UNIT, PARAMETERS = "net_exposure", "money", ("max_net_notional",)
REGULATION = "the mandate: how far the book may follow the market"
ON_MISSING_DATA = "denies: a position without a mark cannot be added"


@inline
def check(
    order: Order, position: Position, account: Account, windows: RollingWindows, limits: LimitRow
) -> CheckResult:
    """An order that brings the sum nearer to zero passes, whatever the sum is."""
    limit = limits.max_net_notional
    if math.isinf(limit):
        return off()
    price = price_of(order, position)
    before = account.net if account.unpriced == 0 else math.nan
    after = before + order.quantity * price
    if is_reducing(order, position) or abs(after) < abs(before):
        return passes(abs(after), limit)
    side = 1.0 if order.quantity > 0.0 else -1.0
    allowed = (limit - side * before) / price if price > 0.0 else 0.0
    return at_least_exit(within(abs(after), limit, allowed), order, position)


def prove(begin: Begin) -> Shown:
    """An order that must be denied, and one that must pass."""
    case = begin()
    return beyond(case, set_limit(case.limits.max_net_notional) / PRICE)
