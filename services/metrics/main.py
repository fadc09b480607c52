"""Signals, start, stop."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Sequence

from prometheus_client import start_http_server

from connectors.kafka.identity import act_as
from connectors.logs import configure
from services.metrics.bootstrap import sources_of
from services.metrics.gathering import Gatherer, Source
from services.metrics.settings import MetricsSettings
from trading.errors import ConfigurationError


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
    os.nice(settings.nice)
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    gatherer = Gatherer([*sources_of(settings), *more], settings.every_s)
    try:
        server, thread = start_http_server(settings.port, settings.host, gatherer.registry)
    except OSError as error:
        raise ConfigurationError(
            f"port {settings.port} on {settings.host} cannot be had ({error.strerror}): choose another with "
            "ULTRATHINK_METRICS_PORT"
        ) from error
    gatherer.start()
    listening(int(server.server_address[1]))
    stopping.wait()
    server.shutdown()
    server.server_close()
    thread.join()
    gatherer.close()
