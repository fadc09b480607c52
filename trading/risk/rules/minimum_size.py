"""The order must be worth sending: the instrument's smallest quantity and notional.

An exit passes: what is too small to be opened must still be closed.
"""

from __future__ import annotations

import math

from trading.compiled import inline
from trading.risk.calendar import Session
from trading.risk.limits import LimitRow, Limits
from trading.risk.measures import flag, is_reducing, off, price_of
from trading.risk.model import TINY, Account, CheckResult, Order, Position, RollingWindows
from trading.risk.proof import PRICE, Begin, Shown

NAME, UNIT, PARAMETERS = "minimum_size", "", ("min_quantity", "min_notional")
REGULATION = "venue's contract specification"
ON_MISSING_DATA = "denies: an order of unknown worth may be too small"


@inline
def check(
    order: Order, position: Position, account: Account, windows: RollingWindows, limits: LimitRow
) -> CheckResult:
    """In units, and in money at the order's price."""
    if limits.min_quantity == 0.0 and limits.min_notional == 0.0:
        return off()
    worth = abs(order.quantity) * price_of(order, position)
    enough = abs(order.quantity) >= limits.min_quantity * (1.0 - TINY) and worth >= limits.min_notional * (
        1.0 - TINY
    )
    return flag(enough or (is_reducing(order, position) and math.isfinite(worth)), 0.0)


def prove(begin: Begin) -> Shown:
    """An order that must be denied, and one that must pass."""
    case = begin()
    least = max(case.limits.min_quantity, case.limits.min_notional / PRICE)
    return (f"buy {least / 2:g}", case.order(least / 2)), (f"buy {2 * least:g}", case.order(2 * least))


def is_on(limits: Limits, session: Session | None) -> bool:
    """Whether either of its limits is set."""
    return limits.min_quantity > 0.0 or limits.min_notional > 0.0
