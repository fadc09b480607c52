"""After several losing trades within a window, a pause of the symbol, of its losing side, or of all."""

from __future__ import annotations

import math

from trading.risk.limits import LimitRow
from trading.risk.model import (
    SECOND,
    Account,
    Finding,
    Line,
    Order,
    Past,
    at_least_exit,
    exits,
    off,
    passes,
    rule,
    within,
)

NAME, UNIT = "cooldown", "seconds"
PARAMETERS = ("cooldown_losses", "cooldown_window_s", "cooldown_s", "cooldown_scope")
SERVES = "the mandate: a strategy that loses is looked at"
BLIND = "counts the losses of fills, which the log holds"


@rule
def check(order: Order, line: Line, account: Account, past: Past, limits: LimitRow) -> Finding:
    """Seconds of event time that are left of the pause, which must be none; exits pass."""
    if math.isinf(limits.cooldown_losses):
        return off()
    own = line.longs_paused_until_ns if order.quantity > 0.0 else line.shorts_paused_until_ns
    left_s = max(0, max(own, account.paused_until_ns) - order.now_ns) / SECOND
    if exits(order, line):
        return passes(left_s, 0.0)
    return at_least_exit(within(left_s, 0.0, 0.0), order, line)
