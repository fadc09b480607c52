"""Gross exposure of all books of the desk, which gateways reserve for their books in Redis.

A book may go as far as what is reserved for it. Without an answer from Redis it may only shrink.
"""

from __future__ import annotations

import math

from gateway.domain.limits import LimitRow
from gateway.domain.risk.model import (
    Account,
    Finding,
    Line,
    Order,
    Past,
    at_least_exit,
    exits,
    exposure_after,
    off,
    others_gross,
    passes,
    price_of,
    room_on_side,
    rule,
    within,
)

NAME, UNIT, PARAMETERS = "desk_exposure", "money", ("max_desk_notional",)
SERVES = "RTS 6 art. 15(5): exposure of the firm as a whole; SEC 15c3-5(c)(1)(i)"
BLIND = "denies what does not shrink a position while Redis does not answer"


@rule
def check(order: Order, line: Line, account: Account, past: Past, limits: LimitRow) -> Finding:
    """This book's gross exposure after the order, against what is reserved for it."""
    if math.isinf(limits.max_desk_notional):
        return off()
    others, price = others_gross(line, account), price_of(order, line)
    value = others + exposure_after(order, line)
    if exits(order, line):
        return passes(value, order.desk_quota)
    allowed = room_on_side(order, line, (order.desk_quota - others) / price) if price > 0.0 else 0.0
    return at_least_exit(within(value, order.desk_quota, allowed), order, line)
