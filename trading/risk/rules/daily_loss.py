"""Equity's fall since the trading day began, in money; what is not realised counts.

Latched for the rest of the day. The day is that of the account's calendar and time zone.
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

NAME, UNIT, PARAMETERS = "daily_loss", "money", ("max_daily_loss", "session")
SERVES = "RTS 6 art. 15(4): limits from capital base and risk tolerance; the mandate"
BLIND = "denies: an equity that is not known may be lost"


@rule
def check(order: Order, line: Line, account: Account, past: Past, limits: LimitRow) -> Finding:
    """Exits pass."""
    limit = limits.max_daily_loss
    if math.isinf(limit):
        return off()
    value = account.day_equity - equity(account)
    if exits(order, line):
        return passes(value, limit)
    found = within(value, limit, 0.0)
    if account.daily_loss_latched and math.isfinite(value):
        found = Finding(BROKEN, value, limit, 0.0)
    return at_least_exit(found, order, line)
