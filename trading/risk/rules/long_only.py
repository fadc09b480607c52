"""A symbol that must not be sold short: the position stays at or above zero."""

from __future__ import annotations

from trading.compiled import inline
from trading.risk.limits import LimitRow
from trading.risk.measures import flag, is_reducing, off, reducible_quantity
from trading.risk.model import Account, CheckResult, Order, Position, RollingWindows
from trading.risk.proof import Begin, Shown

NAME, UNIT, PARAMETERS = "long_only", "", ("long_only",)
REGULATION = "SSR (EU) 236/2012, Regulation SHO; the mandate"
ON_MISSING_DATA = "denies: an unknown position may be none"


@inline
def check(
    order: Order, position: Position, account: Account, windows: RollingWindows, limits: LimitRow
) -> CheckResult:
    """Working sales count as filled."""
    if not limits.long_only:
        return off()
    return flag(order.quantity > 0.0 or is_reducing(order, position), reducible_quantity(order, position))


def prove(begin: Begin) -> Shown:
    """An order that must be denied, and one that must pass."""
    case = begin()
    return ("sell 1 of none", case.order(-1.0)), ("buy 1", case.order(1.0))
