"""Parameters of requests as values: times, spans, cursors."""

from __future__ import annotations

import base64
import binascii
import re
from datetime import UTC, datetime, timedelta
from typing import overload

from services.data.errors import Unprocessable
from trading.intake import FIRST_NS
from trading.market import MAX_TIME_NS

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NS = 1_000_000_000
OFFSET = re.compile(r" (\d\d:?\d\d)$")


def to_ns(name: str, value: str | int | None) -> int | None:
    """A time as ns since 1970 UTC: ISO 8601 (UTC where it names no zone), or such a number.

    Raises Unprocessable.
    """
    if value is None:
        return None
    text = str(value).strip()
    is_number = text.isascii() and text.isdigit() and len(text) <= 19
    found = int(text) if is_number else iso_ns(name, text)
    if not FIRST_NS <= found < MAX_TIME_NS:
        raise Unprocessable(
            f"{name}={text[:50]}: a time lies between February 1970 and 2200; a number is nanoseconds since 1970"
        )
    return found


def iso_ns(name: str, text: str) -> int:
    """Of an ISO 8601 time. Raises Unprocessable."""
    try:
        # In a query a plus is a space.
        moment = datetime.fromisoformat(OFFSET.sub(r"+\1", text))
        aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        delta = aware - EPOCH
    except (ValueError, OverflowError):
        raise Unprocessable(
            f"{name}={text[:50]!r} is no time: give ISO 8601, as 2026-11-27T15:30:00Z, or ns since 1970 UTC"
        ) from None
    return (delta.days * 86_400 + delta.seconds) * NS + delta.microseconds * 1000


def to_moment(time_ns: int) -> datetime:
    """PostgreSQL's resolution is the microsecond."""
    return EPOCH + timedelta(microseconds=min(time_ns, MAX_TIME_NS) // 1000)


def span_of(since: str | None, until: str | None, now_ns: int, most_days: int) -> tuple[int, int]:
    """A bounded span: by default the last day until now. Raises Unprocessable."""
    most_ns = most_days * 86_400 * NS
    end, begin = to_ns("until", until), to_ns("since", since)
    if end is None:
        end = now_ns if begin is None else min(begin + most_ns, max(now_ns, begin + 1))
    if begin is None:
        begin = max(0, end - 86_400 * NS)
    if begin >= end:
        raise Unprocessable(f"since={since} does not lie before until={until}")
    if end - begin > most_ns:
        raise Unprocessable(
            f"since={since}, until={until}: a question may span {most_days} days; ask for a part at a time"
        )
    return begin, end


def to_cursor(*numbers: int) -> str:
    """Opaque to whoever asks."""
    return base64.urlsafe_b64encode(":".join(map(str, numbers)).encode()).decode().rstrip("=")


@overload
def from_cursor(cursor: str, count: int | None, name: str = ...) -> tuple[int, ...]: ...
@overload
def from_cursor(cursor: str | None, count: int, name: str = ...) -> tuple[int, ...] | None: ...
def from_cursor(cursor: str | None, count: int | None, name: str = "cursor") -> tuple[int, ...] | None:
    """The numbers of one that was given out, so many where that is told. Raises Unprocessable."""
    if cursor is None:
        return None
    try:
        text = base64.urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4)).decode("ascii")
        numbers = tuple(map(int, text.split(":")))
    except (ValueError, binascii.Error):
        numbers = ()
    if (
        len(numbers) != (count or len(numbers) or 1)
        or any(not -1 <= one < 2**63 for one in numbers)
        or cursor != to_cursor(*numbers)
    ):
        raise Unprocessable(f"{name}={cursor[:50]!r} was not given out here: leave it out to begin anew")
    return numbers


def text_of(name: str, value: str) -> str:
    """A text that a database can be asked for. Raises Unprocessable."""
    if "\0" in value or any("\ud800" <= one <= "\udfff" for one in value):
        raise Unprocessable(f"{name} holds characters that no name has")
    return value
