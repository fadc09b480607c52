"""Gross exposure of all books of the desk, which gateways reserve for their books in Redis.

A book may go as far as what is reserved for it. Without an answer from Redis it may only shrink.
"""

from __future__ import annotations

import math

from trading.risk.limits import LimitRow
from trading.risk.model import Account, Finding, Line, Order, Past, gross_within, off, rule

NAME, UNIT, PARAMETERS = "desk_exposure", "money", ("max_desk_notional",)
SERVES = "RTS 6 art. 15(5): exposure of the firm as a whole; SEC 15c3-5(c)(1)(i)"
BLIND = "denies what does not shrink a position while Redis does not answer"


@rule
def check(order: Order, line: Line, account: Account, past: Past, limits: LimitRow) -> Finding:
    """This book's gross exposure after the order, against what is reserved for it."""
    if math.isinf(limits.max_desk_notional):
        return off()
    return gross_within(order, line, account, order.desk_quota)
