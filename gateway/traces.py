"""Spans of decisions, for those whose trace is recorded."""

from __future__ import annotations

from gateway.batch import Batch, BatchTiming
from gateway.decider import Decided
from trading.decision.schema import KINDS
from trading.trace import Traced, TraceIds, Tracer, parent_span_id


def record_traces(
    batch: Batch, decided: Decided, timing: BatchTiming, trace_ids: TraceIds, tracer: Tracer
) -> dict[str, float]:
    """Record what is traced of a batch: trace id -> seconds from sending a tick to its decision."""
    recorded: dict[str, float] = {}
    answered_ns = timing.started_ns
    asked_ns = answered_ns - int(timing.inference_us * 1e3)
    for part in batch.parts:
        raw = part.raw
        for k, i in enumerate(part.kept, part.begin):
            trace_id = trace_ids.of(raw.partition, raw.offsets[i], raw.traceparents[i])
            if not tracer.wants(trace_id):
                continue
            # A producer may give several ticks one trace: the slowest of them is looked for.
            recorded[trace_id] = max(recorded.get(trace_id, 0.0), float(decided.total_s[k]))
            action, reason = KINDS[decided.kinds[k]]
            tracer.record(
                Traced(
                    name="decide",
                    trace_id=trace_id,
                    parent_span_id=parent_span_id(raw.traceparents[i]),
                    begin_ns=min(raw.sent_ns[i], timing.received_ns),
                    end_ns=decided.decided_at_ns,
                    events={
                        "received": timing.received_ns,
                        "features computed": asked_ns,
                        "model answered": answered_ns,
                    },
                    attributes={
                        "messaging.destination.partition.id": str(raw.partition),
                        "messaging.kafka.offset": raw.offsets[i],
                        "ultrathink.symbol": batch.ticks.symbols[k],
                        "ultrathink.action": action.value,
                        "ultrathink.reason": reason.value,
                    },
                )
            )
    return recorded
