"""ACTIVE allows all; REDUCING only what shrinks abs(position); HALTED nothing, or exits where configured.

REDUCING looks at the position after the order, not at the side alone: long 1, sell 10 would flip, and
is clipped to 1.
"""

from __future__ import annotations

import math

from trading.risk.limits import LimitRow
from trading.risk.model import Account, Finding, Line, Order, Past, exit_room, exits, flag, rule
from trading.risk.trading_state import ACTIVE, HALTED

NAME, UNIT, PARAMETERS = "trading_state", "", ("halted_allows_exits",)
SERVES = "RTS 6 art. 12 and 14: stop orderly"
BLIND = "denies: a state that cannot be read counts as REDUCING, one that nobody has stored as HALTED"


@rule
def check(order: Order, line: Line, account: Account, past: Past, limits: LimitRow) -> Finding:
    """The desk's latched state."""
    if order.state == ACTIVE:
        return flag(True, math.inf)
    if order.state >= HALTED and not limits.halted_allows_exits:
        return flag(False, 0.0)
    return flag(exits(order, line), exit_room(order, line))
