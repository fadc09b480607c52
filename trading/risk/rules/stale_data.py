"""The data that the order rests on must not be old.

Its age is the greatest of three: the stream's newest event - this one; the same of the quote; and the
time from event to sending beyond the smallest that was seen lately. The last needs no clock that is
right: two clocks that differ make every delay wrong by the same amount, and the smallest one tells it.
"""

from __future__ import annotations

import math

from trading.risk.limits import LimitRow
from trading.risk.model import SECOND, Account, Finding, Line, Order, Past, off, rule, within

NAME, UNIT, PARAMETERS = "stale_data", "seconds", ("max_staleness_s",)
SERVES = "RTS 6 art. 16: real-time monitoring; FINRA Notice 15-09"
BLIND = "denies"


@rule
def check(order: Order, line: Line, account: Account, past: Past, limits: LimitRow) -> Finding:
    """In seconds of event time; no age can be negative."""
    if math.isinf(limits.max_staleness_s):
        return off()
    age_s = order.age_ns / SECOND if order.age_ns >= 0 else math.nan
    return within(age_s, limits.max_staleness_s, 0.0)
