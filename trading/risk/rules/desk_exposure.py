"""Gross exposure of all books of the desk, which gateways reserve for their books in Redis.

A book may go as far as what is reserved for it. Without an answer from Redis it may only shrink.
"""

from __future__ import annotations

import math

from trading.compiled import inline
from trading.risk.limits import LimitRow
from trading.risk.measures import gross_within, off
from trading.risk.model import Account, CheckResult, Order, Position, RollingWindows
from trading.risk.proof import RESERVATIONS, Begin, Shown

NAME, UNIT, PARAMETERS = "desk_exposure", "money", ("max_desk_notional",)
REGULATION = "RTS 6 art. 15(5): exposure of the firm as a whole; SEC 15c3-5(c)(1)(i)"
ON_MISSING_DATA = "denies what does not shrink a position while Redis does not answer"
NEEDS = RESERVATIONS


@inline
def check(
    order: Order, position: Position, account: Account, windows: RollingWindows, limits: LimitRow
) -> CheckResult:
    """This book's gross exposure after the order, against what is reserved for it."""
    if math.isinf(limits.max_desk_notional):
        return off()
    return gross_within(order, position, account, order.desk_quota)


def prove(begin: Begin) -> Shown:
    """An order that must be denied, and one that must pass."""
    case = begin()
    return (
        ("buy 11 with 1,000 reserved", case.order(11.0, desk_quota=1000.0)),
        ("buy 9 with 1,000 reserved", case.order(9.0, desk_quota=1000.0)),
    )
