"""A restricted symbol may only be left."""

from __future__ import annotations

from trading.compiled import inline
from trading.risk.limits import LimitRow
from trading.risk.measures import flag, is_reducing, off, reducible_quantity
from trading.risk.model import Account, CheckResult, Order, Position, RollingWindows
from trading.risk.proof import Begin, Shown

NAME, UNIT, PARAMETERS = "restricted_list", "", ("restricted",)
REGULATION = "MAR art. 8; SEC 15c3-5(c)(2)(ii): restricted securities"
ON_MISSING_DATA = "knows each symbol from the limits file"


@inline
def check(
    order: Order, position: Position, account: Account, windows: RollingWindows, limits: LimitRow
) -> CheckResult:
    """Clips to what closes the position."""
    if not limits.restricted:
        return off()
    return flag(is_reducing(order, position), reducible_quantity(order, position))


def prove(begin: Begin) -> Shown:
    """An order that must be denied, and one that must pass."""
    case = begin()
    case.accept(1.0)
    return ("buy 1", case.order(1.0)), ("sell 1 of 1", case.order(-1.0))
