"""From bytes to a tick, or to the reason why they are none.

A tick is well-formed, not from the future, and of a symbol that there is room for.

One tick dated far ahead would move its partition's stream clock for good, and everything after it
would be denied as stale. It is compared with the time at which the producer sent it, which lies in
the log, so that a replay admits the same ticks. A flood of made-up symbols would grow the state
without end; which symbols came first lies in the log too.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec
from msgspec import Struct

from trading.market import Tick

_tick = msgspec.json.Decoder(Tick)
_ticks = msgspec.json.Decoder(list[Tick])

#: A tick has at most eight short fields; anything longer is not one.
MAX_TICK_BYTES = 4096


def decode_tick(payload: bytes | None) -> Tick | str:
    """The tick, or why it is none."""
    if payload is None:
        return "no payload"
    if len(payload) > MAX_TICK_BYTES:
        return f"{len(payload)} bytes, more than the {MAX_TICK_BYTES} that a tick may have"
    try:
        return _tick.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return str(error)


def decode_ticks(payloads: Sequence[bytes | None]) -> list[Tick | str]:
    """Decode many; one pass over the joined text where all are well-formed."""
    if all(p is not None and p[:1] == b"{" and len(p) <= MAX_TICK_BYTES for p in payloads):
        try:
            ticks = _ticks.decode(b"[" + b",".join(p for p in payloads if p is not None) + b"]")
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            ticks = []
        # Ticks are flat and allow no unknown field, so no object can span two payloads; equal
        # counts then prove that each payload held exactly one.
        if len(ticks) == len(payloads):
            return list(ticks)
    return [decode_tick(p) for p in payloads]


#: Clocks of producer and exchange may differ by so much.
MAX_AHEAD_NS = 60_000_000_000


class Admission(Struct, frozen=True):
    """What a partition admits: listed symbols, if any are listed, and so many at most."""

    listed: frozenset[str] = frozenset()
    max_symbols: int = 4096

    def admit_all(
        self, payloads: Sequence[bytes | None], sent_ns: Sequence[int], known: Collection[str]
    ) -> list[Tick | str]:
        """The tick of each payload, or why it is none. `known` are the partition's symbols so far."""
        return self.admit_decoded(decode_ticks(payloads), sent_ns, known)

    def admit_decoded(
        self, decoded: Sequence[Tick | str], sent_ns: Sequence[int], known: Collection[str]
    ) -> list[Tick | str]:
        """The same of what was decoded already."""
        found = [not_from_the_future(one, sent) for one, sent in zip(decoded, sent_ns, strict=True)]
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


def admit(payload: bytes | None, sent_ns: int) -> Tick | str:
    """The tick of any symbol, or why it is none."""
    return not_from_the_future(decode_tick(payload), sent_ns)


def not_from_the_future(found: Tick | str, sent_ns: int) -> Tick | str:
    """A tick, or the reason against it."""
    if isinstance(found, str) or found.event_time_ns <= sent_ns + MAX_AHEAD_NS:
        return found
    ahead_s = (found.event_time_ns - sent_ns) / 1e9
    return f"event time is {ahead_s:.0f} s ahead of the time of sending; {MAX_AHEAD_NS / 1e9:.0f} s are allowed"
