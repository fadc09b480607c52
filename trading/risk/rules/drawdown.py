"""Equity's fall below its high-water mark, as a share of it; what is not realised counts.

Latched when a mark or a fill takes it beyond the limit: a recovery does not end it, and the high-water
mark stays, so that the loss cannot repeat. A human resets it, and then the mark begins anew.
"""

from __future__ import annotations

import math

from trading.compiled import inline
from trading.risk.limits import LimitRow
from trading.risk.measures import equity, loss_within, off
from trading.risk.model import Account, CheckResult, Order, Position, RollingWindows
from trading.risk.proof import CAPITAL, Begin, Shown, lost, set_limit

NAME, UNIT, PARAMETERS = "drawdown", "share", ("max_drawdown",)
REGULATION = "RTS 6 art. 15(4): limits from capital base and risk tolerance; the mandate"
ON_MISSING_DATA = "denies: an equity that is not known may be lost"


@inline
def check(
    order: Order, position: Position, account: Account, windows: RollingWindows, limits: LimitRow
) -> CheckResult:
    """Exits pass."""
    limit = limits.max_drawdown
    if math.isinf(limit):
        return off()
    value = 1.0 - equity(account) / account.high_water if account.high_water > 0.0 else math.nan
    return loss_within(value, limit, account.drawdown_latched, order, position)


def prove(begin: Begin) -> Shown:
    """An order that must be denied, and one that must pass."""
    share = set_limit(begin().limits.max_drawdown)
    return (
        (
            f"buy 1 after a fall of {share * 1.2:.2%} and a recovery",
            lost(begin(), 1.2 * share * CAPITAL, recovers=True),
        ),
        (f"buy 1 after a fall of {share * 0.8:.2%}", lost(begin(), 0.8 * share * CAPITAL)),
    )
