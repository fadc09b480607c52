"""Equity's fall below its high-water mark, as a share of it; what is not realised counts.

Latched when a mark or a fill takes it beyond the limit: a recovery does not end it, and the high-water
mark stays, so that the loss cannot repeat. A human resets it, and then the mark begins anew.
"""

from __future__ import annotations

import math

from trading.risk.limits import LimitRow
from trading.risk.model import (
    BROKEN,
    Account,
    Finding,
    Line,
    Order,
    Past,
    at_least_exit,
    equity,
    exits,
    off,
    passes,
    rule,
    within,
)

NAME, UNIT, PARAMETERS = "drawdown", "share", ("max_drawdown",)
SERVES = "RTS 6 art. 15(4): limits from capital base and risk tolerance; the mandate"
BLIND = "denies: an equity that is not known may be lost"


@rule
def check(order: Order, line: Line, account: Account, past: Past, limits: LimitRow) -> Finding:
    """Exits pass."""
    limit = limits.max_drawdown
    if math.isinf(limit):
        return off()
    value = 1.0 - equity(account) / account.high_water if account.high_water > 0.0 else math.nan
    if exits(order, line):
        return passes(value, limit)
    found = within(value, limit, 0.0)
    if account.drawdown_latched and math.isfinite(value):
        found = Finding(BROKEN, value, limit, 0.0)
    return at_least_exit(found, order, line)
