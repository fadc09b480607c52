"""From bytes to a tick, or to the reason why they are none.

A tick is well-formed, not from the future, and of a symbol that there is room for.

One tick dated far ahead would move its partition's stream clock for good, and everything after it
would be denied as stale. It is compared with the time at which the broker took it, which lies in the
log, so that a replay admits the same ticks: no producer can move a partition's clock further than the
broker's. A flood of made-up symbols would grow the state without end; which symbols came first lies in
the log too.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from msgspec import Struct

from trading.encoding import Records
from trading.errors import BadRecord
from trading.market import Tick

_tick, _ticks = Records(Tick), Records(list[Tick])

#: A tick has at most eight short fields; anything longer is not one.
MAX_TICK_BYTES = 4096


def decode_tick(payload: bytes | None) -> Tick | str:
    """The tick, or why it is none."""
    if payload is not None and len(payload) > MAX_TICK_BYTES:
        return f"{len(payload)} bytes, more than the {MAX_TICK_BYTES} that a tick may have"
    try:
        return _tick.read(payload)
    except BadRecord as error:
        return str(error)


def decode_ticks(payloads: Sequence[bytes | None]) -> list[Tick | str]:
    """Decode many; one pass over the joined text where all are well-formed."""
    if all(p is not None and p[:1] == b"{" and len(p) <= MAX_TICK_BYTES for p in payloads):
        try:
            ticks = _ticks.read(b"[" + b",".join(p for p in payloads if p is not None) + b"]")
        except BadRecord:
            ticks = []
        # Ticks are flat and allow no unknown field, so no object can span two payloads; equal
        # counts then prove that each payload held exactly one.
        if len(ticks) == len(payloads):
            return list(ticks)
    return [decode_tick(p) for p in payloads]


#: The end of January 1970: seconds, milliseconds and microseconds of our time, read as nanoseconds, lie before it.
FIRST_NS = 31 * 86_400 * 1_000_000_000
#: The exchange's clock may run so far ahead of the broker's.
MAX_AHEAD_NS = 5_000_000_000


class Admission(Struct, frozen=True):
    """What a partition admits: listed symbols, if any are listed, and so many at most."""

    listed: frozenset[str] = frozenset()
    max_symbols: int = 4096

    def admit_all(
        self, payloads: Sequence[bytes | None], appended_ns: Sequence[int], known: Collection[str]
    ) -> list[Tick | str]:
        """The tick of each payload, or why it is none. `known` are the partition's symbols so far."""
        return self.admit_decoded(decode_ticks(payloads), appended_ns, known)

    def admit_decoded(
        self, decoded: Sequence[Tick | str], appended_ns: Sequence[int], known: Collection[str]
    ) -> list[Tick | str]:
        """The same of what was decoded already."""
        found = [in_time(one, at_ns) for one, at_ns in zip(decoded, appended_ns, strict=True)]
        fresh: set[str] = set()
        for k, tick in enumerate(found):
            if isinstance(tick, str) or tick.symbol in known or tick.symbol in fresh:
                continue
            if (reason := self._against(tick.symbol, len(known) + len(fresh))) is not None:
                found[k] = reason
            else:
                fresh.add(tick.symbol)
        return found

    def _against(self, symbol: str, count: int) -> str | None:
        if self.listed and symbol not in self.listed:
            return f"unknown symbol {symbol}: it is not among the {len(self.listed)} listed ones"
        if count >= self.max_symbols:
            return f"unknown symbol {symbol}: the partition holds {count} symbols already, its most"
        return None


def admit(payload: bytes | None, appended_ns: int) -> Tick | str:
    """The tick of any symbol, or why it is none."""
    return in_time(decode_tick(payload), appended_ns)


def in_time(found: Tick | str, appended_ns: int) -> Tick | str:
    """A tick, or the reason against its time."""
    if isinstance(found, str):
        return found
    if found.event_time_ns < FIRST_NS:
        return f"event_time_ns {found.event_time_ns} lies in January 1970: {unit_of(found.event_time_ns)}"
    if found.event_time_ns <= appended_ns + MAX_AHEAD_NS:
        return found
    ahead_s = (found.event_time_ns - appended_ns) / 1e9
    return f"event time is {ahead_s:.0f} s ahead of the broker's clock; {MAX_AHEAD_NS / 1e9:.0f} s are allowed"


def unit_of(time: int) -> str:
    """What a time in January 1970 is likely to be: seconds, milliseconds or microseconds all read as such."""
    for digits, unit, factor in ((11, "seconds", 10**9), (14, "milliseconds", 10**6), (17, "microseconds", 10**3)):
        if time >= 10 ** (digits - 4) and len(str(time)) <= digits:
            return f"it looks like {unit}; multiply by {factor:,}"
    return "give nanoseconds since 1970"
