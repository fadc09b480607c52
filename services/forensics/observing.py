"""What Prometheus and traces are told of the trail."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from msgspec import Struct
from prometheus_client import Counter, Gauge

from connectors.listening import own_registry
from services.forensics.ports import ALARMS, Alarm, Observer
from services.forensics.records import Record
from trading.encoding import Records
from trading.errors import BadRecord
from trading.trace import Traced, Tracer

#: A turn takes a second or two, and tells of itself while it compares; who says nothing for so long waits.
LONGEST_TURN_S = 15.0


class StoredDecision(Struct):
    """The fields of a decision that a trace needs."""

    decision_id: str
    decided_at_ns: int
    trace_id: str = ""


_stored = Records(StoredDecision)


class Metrics(Observer):
    """Implements Observer with counters; tells somebody of every turn."""

    def __init__(
        self,
        turn: Callable[[int, str], None],
        tracer: Tracer | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing listens yet."""
        self.registry = own_registry()
        self._turn, self._tracer, self._clock = turn, tracer, clock
        self._records = Counter(
            "forensics_records", "Records in the trail, since it started.", ["kind"], registry=self.registry
        )
        self._lag = Gauge(
            "forensics_lag_seconds",
            "Age of the newest record when it was stored.",
            ["kind"],
            registry=self.registry,
        )
        self._alarms = Counter(
            "forensics_alarms", "What should not be, since it started.", ["kind"], registry=self.registry
        )
        self._signed = Gauge(
            "forensics_checkpoint_timestamp_seconds", "When the last checkpoint was signed.", registry=self.registry
        )
        self._refused = Gauge(
            "forensics_signing_refused", "1 while no checkpoint may be signed.", registry=self.registry
        )
        self._verified = Gauge(
            "forensics_verified_timestamp_seconds",
            "When all of the trail was verified last, or was to be first.",
            registry=self.registry,
        )
        self._findings = Gauge(
            "forensics_verification_findings", "What the last verification found.", registry=self.registry
        )
        self._is_waiting, self._turned_s = False, clock()
        waiting = Gauge("forensics_waiting", "1 while Kafka or the database is waited for.", registry=self.registry)
        waiting.set_function(self._waits)
        for kind in ALARMS:
            self._alarms.labels(kind)

    def stored(self, kind: str, records: Sequence[Record]) -> None:
        """See Observer."""
        if not records:
            return
        self._records.labels(kind).inc(len(records))
        self._lag.labels(kind).set(max(0.0, time.time() - records[-1].timestamp_ms / 1e3))
        if kind == "decisions" and self._tracer is not None:
            trace(records, self._tracer)

    def alarm(self, alarm: Alarm) -> None:
        """See Observer."""
        self._alarms.labels(alarm.kind).inc()

    def signed(self, signed_at_ns: int, refuses: str) -> None:
        """See Observer."""
        if signed_at_ns:
            self._signed.set(signed_at_ns / 1e9)
        self._refused.set(bool(refuses))

    def verified(self, ended_ns: int, findings: int) -> None:
        """See Observer."""
        self._verified.set(ended_ns / 1e9)
        self._findings.set(findings)

    def turn(self, total: int, waiting: str) -> None:
        """See Observer."""
        self._is_waiting, self._turned_s = bool(waiting), self._clock()
        self._turn(total, waiting)

    def _waits(self) -> float:
        # A server that hangs neither answers nor refuses: who asked it says nothing any more.
        return float(self._is_waiting or self._clock() - self._turned_s > LONGEST_TURN_S)


def trace(records: Sequence[Record], tracer: Tracer) -> None:
    """Record that decisions are in the trail, each in the trace of its tick."""
    now_ns = time.time_ns()
    for record in records:
        try:
            found = _stored.read(record.value)
        except BadRecord:
            continue
        if found.trace_id and tracer.wants(found.trace_id):
            attributes: dict[str, str | int] = {"ultrathink.decision_id": found.decision_id}
            tracer.record(Traced("audit", found.trace_id, "", found.decided_at_ns, now_ns, {}, attributes))
