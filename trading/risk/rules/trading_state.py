"""ACTIVE allows all; REDUCING only what shrinks abs(position); HALTED nothing, or exits where configured.

REDUCING looks at the position after the order, not at the side alone: long 1, sell 10 would flip, and
is clipped to 1.
"""

from __future__ import annotations

import math

from trading.compiled import inline
from trading.risk.limits import LimitRow
from trading.risk.measures import flag, is_reducing, reducible_quantity
from trading.risk.model import Account, CheckResult, Order, Position, RollingWindows
from trading.risk.proof import Begin, Shown
from trading.risk.trading_state import ACTIVE, HALTED

NAME, UNIT, PARAMETERS = "trading_state", "", ("halted_allows_exits",)
REGULATION = "RTS 6 art. 12 and 14: stop orderly"
ON_MISSING_DATA = "denies: a state that cannot be read counts as REDUCING, one that nobody has stored as HALTED"
ALWAYS_ON = True


@inline
def check(
    order: Order, position: Position, account: Account, windows: RollingWindows, limits: LimitRow
) -> CheckResult:
    """The desk's latched state."""
    if order.state == ACTIVE:
        return flag(True, math.inf)
    if order.state >= HALTED and not limits.halted_allows_exits:
        return flag(False, 0.0)
    return flag(is_reducing(order, position), reducible_quantity(order, position))


def prove(begin: Begin) -> Shown:
    """An order that must be denied, and one that must pass."""
    case = begin()
    return ("buy 1, halted", case.order(1.0, state=HALTED)), ("buy 1, active", case.order(1.0))
