"""One trace id through tick, decision and audit (W3C Trace Context, 16 bytes in hex)."""

from __future__ import annotations

import hashlib
import re
from typing import Protocol

from msgspec import Struct

HEADER = "traceparent"
#: version-trace_id-parent_id-flags; all zeros is no id.
_TRACEPARENT = re.compile(rb"[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")


class TraceIds:
    """Ids of one topic's messages: a function of where a message lies, so that a replay names the same."""

    def __init__(self, topic: str) -> None:
        self.prefix = hashlib.blake2b(topic.encode(), digest_size=8).hexdigest()

    def of(self, partition: int, offset: int, traceparent: bytes | None) -> str:
        """The producer's trace id where it sent one, else topic, partition and offset."""
        if (given := self.given(traceparent)) is not None:
            return given.decode()
        return f"{self.prefix}{partition & 0xFFFF:04x}{offset & 0xFFFFFFFFFFFF:012x}"

    def given(self, traceparent: bytes | None) -> bytes | None:
        """The trace id of a well-formed header, 32 hexadecimal digits."""
        found = None if traceparent is None else _TRACEPARENT.fullmatch(traceparent)
        return None if found is None else found[1]


def parent_span_id(traceparent: bytes | None) -> str:
    """The span that a well-formed header names; "" without one."""
    found = None if traceparent is None else _TRACEPARENT.fullmatch(traceparent)
    return "" if found is None else found[2].decode()


class Traced(Struct, frozen=True):
    """Something that happened to a tick, for its trace.

    Attributes:
        name: what.
        trace_id: 32 hexadecimal digits.
        parent_span_id: 16 hexadecimal digits; "" where the producer sent none.
        begin_ns, end_ns: wall time.
        events: name -> wall time in ns, within.
        attributes: what to search by.
    """

    name: str
    trace_id: str
    parent_span_id: str
    begin_ns: int
    end_ns: int
    events: dict[str, int]
    attributes: dict[str, str | int]


class Tracer(Protocol):
    """Where traces go."""

    def wants(self, trace_id: str) -> bool:
        """Whether this trace is recorded."""

    def record(self, traced: Traced) -> None:
        """Keep it; never waits."""
