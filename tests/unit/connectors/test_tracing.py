"""One trace id through tick, decision and audit; a share of the ids is recorded, the same everywhere."""

from __future__ import annotations

import io
import json

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from connectors import tracing
from connectors.tracing import SpanTracer, open_tracer
from services.forensics.observing import trace
from services.forensics.records import Record
from tests.fakes import FakeClock, raw_batch
from tests.unit.gateway.test_pipeline import Bench, quotes
from trading.encoding import encode
from trading.trace import Traced

GIVEN, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def exported(share=1.0):
    exporter = InMemorySpanExporter()
    return SpanTracer(exporter, "test", share), exporter


def test_tick_decision_and_audit_share_their_trace_id():
    tracer, exporter = exported()
    clock = FakeClock()
    batch = raw_batch(quotes(2), clock)
    batch.slices[0].traceparents[0] = f"00-{GIVEN}-{PARENT}-01".encode()
    bench = Bench([batch], clock=clock, tracer=tracer)
    first, second = bench.run()
    trace([Record(n, 2, 0, None, encode(d)) for n, d in enumerate((first, second))], tracer)
    tracer.close()
    spans = exporter.get_finished_spans()
    assert [(s.name, f"{s.context.trace_id:032x}") for s in spans] == [
        ("decide", GIVEN), ("decide", second.trace_id), ("audit", GIVEN), ("audit", second.trace_id),
    ]  # fmt: skip
    decide = spans[0]
    assert f"{decide.parent.span_id:016x}" == PARENT
    assert spans[1].parent is None
    assert decide.attributes["ultrathink.symbol"] == "A"
    assert decide.attributes["ultrathink.reason"] == "warming_up"
    assert [event.name for event in decide.events] == ["received", "features computed", "model answered"]
    assert decide.start_time <= decide.events[0].timestamp <= decide.end_time
    # The latency that is counted names its trace.
    assert bench.metrics.recorded == {
        d.trace_id: (span.end_time - span.start_time) / 1e9 for d, span in zip((first, second), spans, strict=False)
    }


def test_the_share_is_of_the_ids_and_the_same_in_every_process():
    one, other = exported(0.1)[0], exported(0.1)[0]
    ids = [f"{'ab' * 8}{k:016x}" for k in range(5_000)]
    wanted = [one.wants(i) for i in ids]
    assert wanted == [other.wants(i) for i in ids]
    assert 400 < sum(wanted) < 600
    assert not any(map(exported(0.0)[0].wants, ids))
    bench = Bench([quotes(2)], tracer=exported(0.0)[0])
    bench.run()
    assert bench.metrics.recorded == {}


def test_off_costs_nothing_and_console_writes_a_line_a_span(monkeypatch):
    assert open_tracer("none", "test", 1.0) is None
    stream = io.StringIO()
    monkeypatch.setattr(tracing.sys, "stderr", stream)
    tracer = open_tracer("console", "test", 1.0)
    tracer.record(Traced("decide", GIVEN, "", 1, 2, {}, {"ultrathink.symbol": "A"}))
    tracer.close()
    found = json.loads(stream.getvalue())
    assert found["context"]["trace_id"] == f"0x{GIVEN}"
    assert found["resource"]["attributes"]["service.name"] == "test"


@pytest.mark.parametrize("name", ["otlp"])
def test_the_standard_exporter_is_there(name, monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    tracer = open_tracer(name, "test", 1.0)
    assert tracer.wants(GIVEN)
    tracer.close()
