"""What is taken for a tick: well-formed, and not from the future.

One tick dated far ahead would move its partition's stream clock for good, and everything after it
would be denied as stale. It is compared with the time at which the producer sent it, which lies in
the log, so that a replay admits the same ticks.
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.domain.codec import decode_tick, decode_ticks
from gateway.domain.schemas import Tick

#: Clocks of producer and exchange may differ by so much.
MAX_AHEAD_NS = 60_000_000_000


def admit(payload: bytes | None, sent_ns: int) -> Tick | str:
    """The tick, or why it is none."""
    return judge(decode_tick(payload), sent_ns)


def admit_all(payloads: Sequence[bytes | None], sent_ns: Sequence[int]) -> list[Tick | str]:
    """The same for many."""
    return [judge(found, sent) for found, sent in zip(decode_ticks(payloads), sent_ns, strict=True)]


def judge(found: Tick | str, sent_ns: int) -> Tick | str:
    """A tick, or the reason against it."""
    if isinstance(found, str) or found.event_time_ns <= sent_ns + MAX_AHEAD_NS:
        return found
    ahead_s = (found.event_time_ns - sent_ns) / 1e9
    return f"event time is {ahead_s:.0f} s ahead of the time of sending; {MAX_AHEAD_NS / 1e9:.0f} s are allowed"
