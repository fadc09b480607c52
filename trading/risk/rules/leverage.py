"""Gross exposure after the order / equity."""

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
    equity,
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

NAME, UNIT, PARAMETERS = "leverage", "times", ("max_leverage",)
SERVES = "AIFMD art. 25, ESMA CFD rules; the prime broker's terms"
BLIND = "denies: what has no equity, or an unknown one, has no leverage"


@rule
def check(order: Order, line: Line, account: Account, past: Past, limits: LimitRow) -> Finding:
    """Marked to market: equity counts what is not realised."""
    limit = limits.max_leverage
    if math.isinf(limit):
        return off()
    own, others, price = equity(account), others_gross(line, account), price_of(order, line)
    value = (others + exposure_after(order, line)) / own if own > 0.0 else math.nan
    if exits(order, line):
        return passes(value, limit)
    allowed = room_on_side(order, line, (limit * own - others) / price) if price > 0.0 else 0.0
    return at_least_exit(within(value, limit, allowed), order, line)
