"""What is taken for a tick: well-formed, not from the future, and of a symbol that there is room for.

One tick dated far ahead would move its partition's stream clock for good, and everything after it
would be denied as stale. It is compared with the time at which the producer sent it, which lies in
the log, so that a replay admits the same ticks. A flood of made-up symbols would grow the state
without end; which symbols came first lies in the log too.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from msgspec import Struct

from gateway.domain.codec import decode_tick, decode_ticks
from gateway.domain.schemas import Tick

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
        found = [judge(one, sent) for one, sent in zip(decoded, sent_ns, strict=True)]
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
    return judge(decode_tick(payload), sent_ns)


def judge(found: Tick | str, sent_ns: int) -> Tick | str:
    """A tick, or the reason against it."""
    if isinstance(found, str) or found.event_time_ns <= sent_ns + MAX_AHEAD_NS:
        return found
    ahead_s = (found.event_time_ns - sent_ns) / 1e9
    return f"event time is {ahead_s:.0f} s ahead of the time of sending; {MAX_AHEAD_NS / 1e9:.0f} s are allowed"
