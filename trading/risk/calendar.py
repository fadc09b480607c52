"""Trading days and hours in a time zone, in a form that compiled code can ask."""

from __future__ import annotations

import datetime as dt
import re
from functools import lru_cache
from typing import Annotated, Literal, NamedTuple, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
from msgspec import Meta, Struct

from trading.arrays import Int64Array
from trading.compiled import entry, inline
from trading.encoding import END
from trading.errors import ConfigurationError

SECOND = 1_000_000_000
DAY = 86_400 * SECOND
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: tuple[Day, ...] = get_args(Day)
#: Zones' rules are known so far; before and after, the nearest offset holds.
FIRST_YEAR, LAST_YEAR = 1970, 2100
#: 1970-01-01 was a Thursday.
THURSDAY = 3

TimeOfDay = Annotated[str, Meta(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]" + END + "|^24:00" + END)]


class Session(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Trading days and hours.

    Attributes:
        timezone: IANA name.
        opens, closes: local times; a session that closes before it opens runs over midnight.
        days: on which a session opens.
        holidays: dates on which none does, YYYY-MM-DD.
        rolls: local time at which a new trading day begins, for the daily loss.
    """

    timezone: str = "UTC"
    opens: TimeOfDay = "00:00"
    closes: TimeOfDay = "24:00"
    days: tuple[Day, ...] = DAYS
    holidays: tuple[Annotated[str, Meta(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}" + END)], ...] = ()
    rolls: TimeOfDay = "00:00"


class Calendar(NamedTuple):
    """A session, compiled.

    Attributes:
        changes: int64 [n], when the zone's offset changes; the first is before all time.
        offsets: int64 [n], local time - UTC from then on, ns.
        opens_ns, closes_ns, rolls_ns: since local midnight.
        days: int64, bit k is weekday k (Monday is 0).
        holidays: int64 [m], days since 1970, sorted.
    """

    changes: Int64Array
    offsets: Int64Array
    opens_ns: int
    closes_ns: int
    rolls_ns: int
    days: int
    holidays: Int64Array


def compile_session(session: Session | None) -> Calendar:
    """Raises ConfigurationError for an unknown time zone or a date that does not exist."""
    session = session or Session()
    try:
        zone = ZoneInfo(session.timezone)
        holidays = [dt.date.fromisoformat(day).toordinal() for day in session.holidays]
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ConfigurationError(f"session: {error}") from error
    if session.opens == session.closes:
        raise ConfigurationError(f"session: it opens and closes at {session.opens}")
    changes, offsets = zone_changes(zone.key)
    epoch = dt.date(1970, 1, 1).toordinal()
    return Calendar(
        changes=changes,
        offsets=offsets,
        opens_ns=time_of_day_ns(session.opens),
        closes_ns=time_of_day_ns(session.closes),
        rolls_ns=time_of_day_ns(session.rolls) % DAY,
        days=sum(1 << DAYS.index(day) for day in set(session.days)),
        holidays=np.array(sorted(day - epoch for day in holidays), np.int64),
    )


def time_of_day_ns(text: str) -> int:
    """Nanoseconds since midnight of HH:MM."""
    hours, minutes = map(int, re.split(":", text))
    return (hours * 60 + minutes) * 60 * SECOND


@lru_cache(maxsize=8)
def zone_changes(name: str) -> tuple[Int64Array, Int64Array]:
    """When a zone's offset changes, and to what, int64 [n] each."""
    zone = ZoneInfo(name)

    def offset_s(at_s: int) -> int:
        found = dt.datetime.fromtimestamp(at_s, zone).utcoffset()
        return 0 if found is None else int(found.total_seconds())

    def first_after(low: int, high: int) -> int:
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if offset_s(middle) == offset_s(low) else (low, middle)
        return high

    utc = dt.UTC
    begin = int(dt.datetime(FIRST_YEAR, 1, 1, tzinfo=utc).timestamp())
    end = int(dt.datetime(LAST_YEAR, 1, 1, tzinfo=utc).timestamp())
    changes, offsets = [-(2**62)], [offset_s(begin)]
    # No zone has two changes within a fortnight.
    for at in range(begin, end, 14 * 86_400):
        until = min(at + 14 * 86_400, end)
        if offset_s(until) != offset_s(at):
            change = first_after(at, until)
            changes.append(change * SECOND)
            offsets.append(offset_s(change))
    return np.array(changes, np.int64), np.array(offsets, np.int64) * SECOND


@inline
def local_ns(now_ns: int, calendar: Calendar) -> int:
    """Nanoseconds since 1970 on the session's own clocks."""
    place = np.searchsorted(calendar.changes, now_ns, side="right") - 1
    return now_ns + calendar.offsets[place]


@inline
def trading_day(now_ns: int, calendar: Calendar) -> int:
    """The number of the trading day; it changes at the session's roll."""
    return (local_ns(now_ns, calendar) - calendar.rolls_ns) // DAY


@entry
def is_open(now_ns: int, calendar: Calendar) -> bool:
    """Whether a session that opened on a trading day is still going on."""
    local = local_ns(now_ns, calendar)
    day, time = local // DAY, local % DAY
    if calendar.opens_ns < calendar.closes_ns:
        return calendar.opens_ns <= time < calendar.closes_ns and opens_on(day, calendar)
    if time >= calendar.opens_ns:
        return opens_on(day, calendar)
    return time < calendar.closes_ns and opens_on(day - 1, calendar)


@inline
def opens_on(day: int, calendar: Calendar) -> bool:
    """Whether a session opens on a day since 1970."""
    if not (calendar.days >> ((day + THURSDAY) % 7)) & 1:
        return False
    place = np.searchsorted(calendar.holidays, day)
    return not (place < len(calendar.holidays) and calendar.holidays[place] == day)
