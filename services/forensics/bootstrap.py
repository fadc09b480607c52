"""Builds the audit trail on its adapters."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from msgspec import Struct

from connectors.kafka.cluster import require
from services.forensics.reader import DecisionReader
from services.forensics.settings import ForensicsSettings
from services.forensics.store import DecisionArchive
from trading.trace import Tracer


class Forensics(Struct, frozen=True):
    """Where decisions come from, where they are kept, and where traces of that go."""

    reader: DecisionReader
    archive: DecisionArchive
    tracer: Tracer | None


@contextmanager
def build(settings: ForensicsSettings) -> Iterator[Forensics]:
    """Connect; whatever was opened is closed at the end.

    Raises ServiceUnavailable where a server does not answer, or the topic is not there.
    """
    with ExitStack() as opened:
        archive = DecisionArchive(settings.postgres_url.get_secret_value())
        opened.callback(archive.close)
        tracer: Tracer | None = None
        if settings.trace_exporter != "none":
            # Its import takes long, and most have it off.
            from connectors.tracing import open_tracer

            tracing = open_tracer(settings.trace_exporter, "ultrathink-forensics", settings.trace_share)
            if tracing is not None:
                opened.callback(tracing.close)
            tracer = tracing
        require(settings.kafka_bootstrap, settings.decisions_topic)
        reader = DecisionReader(settings.kafka_bootstrap, settings.group, settings.decisions_topic)
        opened.callback(reader.close)
        yield Forensics(reader, archive, tracer)
