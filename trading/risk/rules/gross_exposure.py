"""Sum over symbols of the exposures after the order, working orders filled, in money."""

from __future__ import annotations

import math

from trading.compiled import inline
from trading.risk.limits import LimitRow
from trading.risk.measures import gross_within, off
from trading.risk.model import Account, CheckResult, Order, Position, RollingWindows
from trading.risk.proof import PRICE, Begin, Shown, beyond, set_limit

NAME, UNIT, PARAMETERS = "gross_exposure", "money", ("max_gross_notional",)
REGULATION = "RTS 6 art. 15(4): limits from the capital base; SEC 15c3-5(c)(1)(i)"
ON_MISSING_DATA = "denies: a position without a mark cannot be added"


@inline
def check(
    order: Order, position: Position, account: Account, windows: RollingWindows, limits: LimitRow
) -> CheckResult:
    """The book's own share of the limit."""
    if math.isinf(limits.max_gross_notional):
        return off()
    return gross_within(order, position, account, limits.max_gross_notional)


def prove(begin: Begin) -> Shown:
    """An order that must be denied, and one that must pass."""
    case = begin()
    return beyond(case, set_limit(case.limits.max_gross_notional) / PRICE)
