"""After several losing trades within a window, a pause of the symbol, of its losing side, or of all."""

from __future__ import annotations

import math

from trading.compiled import inline
from trading.risk.limits import LimitRow
from trading.risk.measures import at_least_exit, is_reducing, off, passes, within
from trading.risk.model import SECOND, Account, CheckResult, Order, Position, RollingWindows
from trading.risk.proof import PRICE, Begin, Shown, set_limit

NAME, UNIT = "cooldown", "seconds"
PARAMETERS = ("cooldown_losses", "cooldown_window_s", "cooldown_s", "cooldown_scope")
REGULATION = "the mandate: a strategy that loses is looked at"
ON_MISSING_DATA = "counts the losses of fills, which the log holds"


@inline
def check(
    order: Order, position: Position, account: Account, windows: RollingWindows, limits: LimitRow
) -> CheckResult:
    """Seconds of event time that are left of the pause, which must be none; exits pass."""
    if math.isinf(limits.cooldown_losses):
        return off()
    own = position.longs_paused_until_ns if order.quantity > 0.0 else position.shorts_paused_until_ns
    left_s = max(0, max(own, account.paused_until_ns) - order.now_ns) / SECOND
    if is_reducing(order, position):
        return passes(left_s, 0.0)
    return at_least_exit(within(left_s, 0.0, 0.0), order, position)


def prove(begin: Begin) -> Shown:
    """An order that must be denied, and one that must pass."""
    case = begin()
    for _ in range(int(set_limit(case.limits.cooldown_losses))):
        case.accept(1.0)
        case.accept(-1.0, 0.99 * PRICE)
    denied = case.order(1.0)
    case.tick(PRICE, after_s=case.limits.cooldown_s)
    return (
        (f"buy 1 after {case.limits.cooldown_losses} losing trades", denied),
        (f"buy 1 {case.limits.cooldown_s:g} s later", case.order(1.0)),
    )
