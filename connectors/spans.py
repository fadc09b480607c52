"""Spans for who asks for them: nobody else waits for OpenTelemetry's import, longer than a snapshot's load."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Literal

from trading.trace import Tracer


def tracer_if_asked(
    exporter: Literal["none", "otlp", "console"], service: str, share: float, opened: ExitStack
) -> Tracer | None:
    """A tracer, closed with `opened`; None where traces are off.

    Args:
        exporter: where spans go.
        service: `service.name` of the resource.
        share: of all trace ids, in [0, 1].
        opened: closes it.
    """
    if exporter == "none":
        return None
    from connectors.tracing import open_tracer

    tracer = open_tracer(exporter, service, share)
    if tracer is not None:
        opened.callback(tracer.close)
    return tracer
