"""The data that the order rests on must not be old.

Its age is the greatest of three: the stream's newest event - this one; the same of the quote; and the
time from event to sending beyond the smallest that was seen lately. The last needs no clock that is
right: two clocks that differ make every delay wrong by the same amount, and the smallest one tells it.
"""

from __future__ import annotations

import math

from trading.compiled import inline
from trading.risk.limits import LimitRow
from trading.risk.measures import off, within
from trading.risk.model import SECOND, Account, CheckResult, Order, Position, RollingWindows
from trading.risk.proof import OTHER, PRICE, SYMBOL, Begin, Shown, set_limit

NAME, UNIT, PARAMETERS = "stale_data", "seconds", ("max_staleness_s",)
REGULATION = "RTS 6 art. 16: real-time monitoring; FINRA Notice 15-09"
ON_MISSING_DATA = "denies"


@inline
def check(
    order: Order, position: Position, account: Account, windows: RollingWindows, limits: LimitRow
) -> CheckResult:
    """In seconds of event time; no age can be negative."""
    if math.isinf(limits.max_staleness_s):
        return off()
    age_s = order.age_ns / SECOND if order.age_ns >= 0 else math.nan
    return within(age_s, limits.max_staleness_s, 0.0)


def prove(begin: Begin) -> Shown:
    """An order that must be denied, and one that must pass."""
    case, fresh = begin(), begin()
    late_s = set_limit(case.limits.max_staleness_s) + 1.0
    began_ns = case.now_ns
    case.tick(PRICE, OTHER, late_s)
    case.age_ns = case.book.observe(SYMBOL, began_ns, PRICE, case.now_ns)
    return (
        (f"buy 1 on a tick {late_s:g} s behind the stream", case.order(1.0)),
        ("buy 1 on the newest tick", fresh.order(1.0)),
    )
