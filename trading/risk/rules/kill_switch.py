"""KILLED lets nothing through, not even an exit; only a human's word ends it."""

from __future__ import annotations

from trading.compiled import inline
from trading.risk.limits import LimitRow
from trading.risk.measures import flag
from trading.risk.model import Account, CheckResult, Order, Position, RollingWindows
from trading.risk.proof import Begin, Shown
from trading.risk.trading_state import KILLED

NAME, UNIT, PARAMETERS = "kill_switch", "", ()
REGULATION = "RTS 6 art. 12: kill functionality"
ON_MISSING_DATA = "denies: a state that nobody has stored is HALTED"
ALWAYS_ON = True


@inline
def check(
    order: Order, position: Position, account: Account, windows: RollingWindows, limits: LimitRow
) -> CheckResult:
    """The desk's latched state."""
    return flag(0 <= order.state < KILLED, 0.0)


def prove(begin: Begin) -> Shown:
    """An order that must be denied, and one that must pass."""
    case = begin()
    case.accept(1.0)
    return ("sell 1 of 1, killed", case.order(-1.0, state=KILLED)), ("sell 1 of 1, active", case.order(-1.0))
