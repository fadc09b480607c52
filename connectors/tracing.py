"""OpenTelemetry spans of decisions, off unless asked for; each under the trace id that its tick carries.

The exporter is the standard one: OTEL_EXPORTER_OTLP_ENDPOINT and the other OTEL_* variables say where spans go.
"""

from __future__ import annotations

import sys
import zlib
from typing import Literal

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags, set_span_in_context

from trading.trace import Traced

ExporterName = Literal["none", "otlp", "console"]


class PresetIds(RandomIdGenerator):
    """The trace id of a root span is that of its tick, not a random one."""

    trace_id = 0

    def generate_trace_id(self) -> int:
        """The one that was set."""
        return self.trace_id


class SpanTracer:
    """Implements Tracer. One thread records; exporting happens in another."""

    def __init__(self, exporter: SpanExporter, service: str, share: float) -> None:
        """Prepare.

        Args:
            exporter: where spans go.
            service: `service.name` of the resource.
            share: of all trace ids, in [0, 1]; the same ids in every process.
        """
        self._ids, self._bound = PresetIds(), share * 2.0**32
        self._provider = TracerProvider(
            resource=Resource.create({"service.name": service}), id_generator=self._ids, shutdown_on_exit=False
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("ultrathink")

    def wants(self, trace_id: str) -> bool:
        """Whether this id belongs to the share; ids made of offsets are not random, so it is hashed."""
        return zlib.crc32(trace_id.encode()) < self._bound

    def record(self, traced: Traced) -> None:
        """A span from its begin to its end, with one event a stage."""
        self._ids.trace_id = int(traced.trace_id, 16)
        context = None
        if traced.parent_span_id:
            context = set_span_in_context(
                NonRecordingSpan(
                    SpanContext(
                        self._ids.trace_id,
                        int(traced.parent_span_id, 16),
                        is_remote=True,
                        trace_flags=TraceFlags(TraceFlags.SAMPLED),
                    )
                )
            )
        span = self._tracer.start_span(
            traced.name,
            context=context,
            kind=SpanKind.CONSUMER,
            start_time=traced.begin_ns,
            attributes=traced.attributes,
        )
        for name, at_ns in traced.events.items():
            span.add_event(name, timestamp=at_ns)
        span.end(max(traced.begin_ns, traced.end_ns))

    def close(self) -> None:
        """Export what waits."""
        self._provider.shutdown()


def open_tracer(exporter: ExporterName, service: str, share: float) -> SpanTracer | None:
    """None where tracing is off."""
    if exporter == "none":
        return None
    if exporter == "console":
        return SpanTracer(ConsoleSpanExporter(out=sys.stderr, formatter=one_line), service, share)
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return SpanTracer(OTLPSpanExporter(), service, share)


def one_line(span: ReadableSpan) -> str:
    """A span as a line of JSON."""
    return f"{span.to_json(indent=None)}\n"
