"""After so many buys, or sells, of a symbol in a row, only exits until a human has looked."""

from __future__ import annotations

import math

from trading.compiled import inline
from trading.risk.limits import LimitRow
from trading.risk.measures import is_reducing, off, passes, within
from trading.risk.model import Account, CheckResult, Order, Position, RollingWindows
from trading.risk.proof import Begin, Shown, set_limit

NAME, UNIT, PARAMETERS = "repeated_execution", "orders", ("max_same_way_executions",)
REGULATION = "RTS 6 art. 15(3): repeated automated execution throttle"
ON_MISSING_DATA = "counts accepted orders, which the log holds"


@inline
def check(
    order: Order, position: Position, account: Account, windows: RollingWindows, limits: LimitRow
) -> CheckResult:
    """The run that this order would make; latched when a run has been as long as the limit."""
    if math.isinf(limits.max_same_way_executions):
        return off()
    same_way = position.run * order.quantity > 0.0
    run = abs(position.run) + 1.0 if same_way else 1.0
    if is_reducing(order, position):
        return passes(run, limits.max_same_way_executions)
    if position.stopped:
        return within(max(run, limits.max_same_way_executions + 1.0), limits.max_same_way_executions, 0.0)
    return within(run, limits.max_same_way_executions, 0.0)


def prove(begin: Begin) -> Shown:
    """An order that must be denied, and one that must pass."""
    case, one_less = begin(), begin()
    most = int(set_limit(case.limits.max_same_way_executions))
    for _ in range(most):
        case.accept(1.0)
    for _ in range(most - 1):
        one_less.accept(1.0)
    return (f"buy 1 after {most} buys", case.order(1.0)), (f"buy 1 after {most - 1} buys", one_less.order(1.0))
