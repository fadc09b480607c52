"""Store, then commit: a decision may be read twice, and is stored once by its id."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial

import structlog
from msgspec import Struct

from services.forensics.ports import Archive, Kept, Reader
from trading.encoding import Records
from trading.errors import BadRecord, ServiceUnavailable
from trading.trace import Traced, Tracer

log = structlog.get_logger()
BATCH = 500
POLL_S = 0.5
#: Between two tries to store, doubled up to the longest.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 5.0


class StoredDecision(Struct):
    """The fields of a decision that a trace needs."""

    decision_id: str
    decided_at_ns: int
    trace_id: str = ""


_stored = Records(StoredDecision)


def follow(
    reader: Reader,
    archive: Archive,
    stopping: threading.Event,
    progress: Callable[[int], None] = lambda _: None,
    tracer: Tracer | None = None,
) -> Kept:
    """Store everything that is published until stopped; returns how much was new.

    An archive that does not answer is waited for: what was read is not committed before it is stored.

    Args:
        reader: of decisions.
        archive: where they go.
        stopping: ends it.
        progress: told how many were new so far, in every turn, also when nothing came or the archive is waited
            for: it shows that the consumer lives.
        tracer: where traces go; None where they are off.

    Raises:
        ServiceUnavailable: decisions cannot be read.
    """
    kept = Kept()
    while not stopping.is_set():
        payloads = reader.read(BATCH, POLL_S)
        if payloads:
            found = store(payloads, archive, stopping, partial(progress, kept.new))
            if found is None:
                break
            kept = kept + found
            reader.commit()
            if tracer is not None:
                trace(payloads, tracer)
        progress(kept.new)
    return kept


def store(
    payloads: list[bytes], archive: Archive, stopping: threading.Event, waiting: Callable[[], None]
) -> Kept | None:
    """Store, however long that takes; None when stopped before."""
    pause_s = FIRST_PAUSE_S
    while True:
        try:
            return archive.store(payloads)
        except ServiceUnavailable as error:
            log.warning("decisions wait for the archive", decisions=len(payloads), reason=str(error)[:200])
        waiting()
        if stopping.wait(pause_s):
            return None
        pause_s = min(2.0 * pause_s, LONGEST_PAUSE_S)


def trace(payloads: list[bytes], tracer: Tracer) -> None:
    """Record that decisions are in the archive, each in the trace of its tick."""
    now_ns = time.time_ns()
    for payload in payloads:
        try:
            found = _stored.read(payload)
        except BadRecord:
            continue  # set aside, and counted there
        if found.trace_id and tracer.wants(found.trace_id):
            attributes: dict[str, str | int] = {"ultrathink.decision_id": found.decision_id}
            tracer.record(Traced("audit", found.trace_id, "", found.decided_at_ns, now_ns, {}, attributes))
