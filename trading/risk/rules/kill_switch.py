"""KILLED lets nothing through, not even an exit; only a human's word ends it."""

from __future__ import annotations

from trading.risk.limits import LimitRow
from trading.risk.model import Account, Finding, Line, Order, Past, flag, rule
from trading.risk.trading_state import KILLED

NAME, UNIT, PARAMETERS = "kill_switch", "", ()
SERVES = "RTS 6 art. 12: kill functionality"
BLIND = "denies: a state that nobody has stored is HALTED"


@rule
def check(order: Order, line: Line, account: Account, past: Past, limits: LimitRow) -> Finding:
    """The desk's latched state."""
    return flag(0 <= order.state < KILLED, 0.0)
