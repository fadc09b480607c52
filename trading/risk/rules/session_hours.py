"""Orders only while the market is open, by the account's calendar and time zone; event time."""

from __future__ import annotations

from trading.risk.limits import LimitRow
from trading.risk.model import Account, Finding, Line, Order, Past, flag, rule

NAME, UNIT, PARAMETERS = "session_hours", "", ("session",)
SERVES = "venue's trading hours"
BLIND = "every tick has a time; without a session every hour is open"


@rule
def check(order: Order, line: Line, account: Account, past: Past, limits: LimitRow) -> Finding:
    """Nothing cures a closed market."""
    return flag(order.in_session, 0.0)
