"""Orders only while the market is open, by the account's calendar and time zone; event time."""

from __future__ import annotations

from trading.compiled import inline
from trading.risk.calendar import SECOND, Session, is_open
from trading.risk.limits import LimitRow, Limits
from trading.risk.measures import flag
from trading.risk.model import Account, CheckResult, Order, Position, RollingWindows
from trading.risk.proof import MONDAY_NS, PRICE, Begin, Shown

NAME, UNIT, PARAMETERS = "session_hours", "", ("session",)
REGULATION = "venue's trading hours"
WHOLE_SESSION = True
ON_MISSING_DATA = "every tick has a time; without a session every hour is open"


@inline
def check(
    order: Order, position: Position, account: Account, windows: RollingWindows, limits: LimitRow
) -> CheckResult:
    """Nothing cures a closed market."""
    return flag(order.in_session, 0.0)


def prove(begin: Begin) -> Shown:
    """An order that must be denied, and one that must pass."""
    case = begin()
    times = [MONDAY_NS + k * 15 * 60 * SECOND for k in range(14 * 96)]
    calendar = case.book.limits.calendar
    closed = next((t for t in times if not is_open(t, calendar)), None)
    opened = next((t for t in times if is_open(t, calendar) and (closed is None or t > closed)), None)
    if closed is None or opened is None:
        raise LookupError("two weeks have no hour that is " + ("closed" if closed is None else "open"))
    case.tick(PRICE, after_s=(closed - case.now_ns) / SECOND)
    denied = case.order(1.0)
    case.tick(PRICE, after_s=(opened - case.now_ns) / SECOND)
    return ("buy 1 while it is closed", denied), ("buy 1 while it is open", case.order(1.0))


def is_on(limits: Limits, session: Session | None) -> bool:
    """Whether there is an hour at which the market is closed."""
    every = Session()
    hours = (every.opens, every.closes, every.days, every.holidays)
    return session is not None and (session.opens, session.closes, session.days, session.holidays) != hours
