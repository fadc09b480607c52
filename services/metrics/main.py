"""Signals, start, stop."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from connectors.ending import told_to_end
from connectors.kafka.identity import act_as
from connectors.listening import serve_metrics
from connectors.logs import configure
from connectors.priority import yield_to_others
from services.metrics.bootstrap import sources_of
from services.metrics.gathering import Gatherer, Source
from services.metrics.settings import MetricsSettings


def run(settings: MetricsSettings, more: Sequence[Source], listening: Callable[[int], None]) -> None:
    """Look, and answer at /metrics, until SIGTERM or SIGINT.

    Args:
        settings: what is watched.
        more: other sources.
        listening: told of the port, once it is bound.

    Raises:
        ConfigurationError: the port cannot be had, or an address is none.
    """
    configure("info")
    act_as("metrics")
    # What decides has a budget of milliseconds; a figure may come a second later.
    yield_to_others(settings.nice)
    stopping = told_to_end()
    gatherer = Gatherer([*sources_of(settings), *more], settings.every_s)
    port, close = serve_metrics(gatherer.registry, settings.host, settings.port, "ULTRATHINK_METRICS_PORT")
    gatherer.start()
    listening(port)
    stopping.wait()
    close()
    gatherer.close()
