"""Store, then commit: a decision may be read twice, and is stored once by its id."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import msgspec
from msgspec import Struct

from services.forensics.ports import Archive, Reader
from trading.trace import Traced, Tracer

BATCH = 500
POLL_S = 0.5


class StoredDecision(Struct):
    """The fields of a decision that a trace needs."""

    decision_id: str
    decided_at_ns: int
    trace_id: str = ""


_stored = msgspec.json.Decoder(StoredDecision)


def follow(
    reader: Reader,
    archive: Archive,
    stopping: threading.Event,
    progress: Callable[[int], None] = lambda _: None,
    tracer: Tracer | None = None,
) -> int:
    """Store everything that is published until stopped; returns how many were new.

    `progress` is called in every turn, also when nothing came: it shows that the consumer lives.
    """
    stored = 0
    while not stopping.is_set():
        payloads = reader.read(BATCH, POLL_S)
        if payloads:
            stored += archive.store(payloads)
            reader.commit()
            if tracer is not None:
                trace(payloads, tracer)
        progress(stored)
    return stored


def trace(payloads: list[bytes], tracer: Tracer) -> None:
    """Record that decisions are in the archive, each in the trace of its tick."""
    now_ns = time.time_ns()
    for payload in payloads:
        found = _stored.decode(payload)
        if found.trace_id and tracer.wants(found.trace_id):
            attributes: dict[str, str | int] = {"ultrathink.decision_id": found.decision_id}
            tracer.record(Traced("audit", found.trace_id, "", found.decided_at_ns, now_ns, {}, attributes))
