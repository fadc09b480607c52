"""Equity's fall since the trading day began, in money; what is not realised counts.

Latched for the rest of the day. The day is that of the account's calendar and time zone.
"""

from __future__ import annotations

import math

from trading.compiled import inline
from trading.risk.calendar import DAY, SECOND
from trading.risk.limits import LimitRow
from trading.risk.measures import equity, loss_within, off
from trading.risk.model import Account, CheckResult, Order, Position, RollingWindows
from trading.risk.proof import Begin, Shown, lost, set_limit

NAME, UNIT, PARAMETERS = "daily_loss", "money", ("max_daily_loss", "session")
REGULATION = "RTS 6 art. 15(4): limits from capital base and risk tolerance; the mandate"
ON_MISSING_DATA = "denies: an equity that is not known may be lost"


@inline
def check(
    order: Order, position: Position, account: Account, windows: RollingWindows, limits: LimitRow
) -> CheckResult:
    """Exits pass."""
    limit = limits.max_daily_loss
    if math.isinf(limit):
        return off()
    value = account.day_equity - equity(account)
    return loss_within(value, limit, account.daily_loss_latched, order, position)


def prove(begin: Begin) -> Shown:
    """An order that must be denied, and one that must pass."""
    most = set_limit(begin().limits.max_daily_loss)
    return (
        (f"buy 1 after losing {most * 1.2:,.6g} today", lost(begin(), 1.2 * most)),
        (f"buy 1 on the day after losing {most * 1.2:,.6g}", lost(begin(), 1.2 * most, then_s=DAY / SECOND)),
    )
