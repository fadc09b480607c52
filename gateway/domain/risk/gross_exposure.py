"""Sum over symbols of the exposures after the order, working orders filled, in money."""

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

NAME, UNIT, PARAMETERS = "gross_exposure", "money", ("max_gross_notional",)
SERVES = "RTS 6 art. 15(4): limits from the capital base; SEC 15c3-5(c)(1)(i)"
BLIND = "denies: a position without a mark cannot be added"


@rule
def check(order: Order, line: Line, account: Account, past: Past, limits: LimitRow) -> Finding:
    """The book's own share of the limit."""
    limit = limits.max_gross_notional
    if math.isinf(limit):
        return off()
    others, price = others_gross(line, account), price_of(order, line)
    value = others + exposure_after(order, line)
    if exits(order, line):
        return passes(value, limit)
    allowed = room_on_side(order, line, (limit - others) / price) if price > 0.0 else 0.0
    return at_least_exit(within(value, limit, allowed), order, line)
