"""After so many buys, or sells, of a symbol in a row, only exits until a human has looked."""

from __future__ import annotations

import math

from trading.risk.limits import LimitRow
from trading.risk.model import Account, Finding, Line, Order, Past, exits, off, passes, rule, within

NAME, UNIT, PARAMETERS = "repeated_execution", "orders", ("max_same_way_executions",)
SERVES = "RTS 6 art. 15(3): repeated automated execution throttle"
BLIND = "counts accepted orders, which the log holds"


@rule
def check(order: Order, line: Line, account: Account, past: Past, limits: LimitRow) -> Finding:
    """The run that this order would make; latched when a run has been as long as the limit."""
    if math.isinf(limits.max_same_way_executions):
        return off()
    same_way = line.run * order.quantity > 0.0
    run = abs(line.run) + 1.0 if same_way else 1.0
    if exits(order, line):
        return passes(run, limits.max_same_way_executions)
    if line.stopped:
        return within(max(run, limits.max_same_way_executions + 1.0), limits.max_same_way_executions, 0.0)
    return within(run, limits.max_same_way_executions, 0.0)
