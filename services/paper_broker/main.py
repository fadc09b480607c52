"""Signals, start, stop."""

from __future__ import annotations

from collections.abc import Callable

from connectors.ending import told_to_end
from connectors.kafka.identity import act_as
from services.paper_broker.bootstrap import build
from services.paper_broker.settings import BrokerSettings


def run(settings: BrokerSettings, progress: Callable[[int], None]) -> int:
    """Answer orders until SIGTERM or SIGINT; returns how many reports were sent.

    `progress` is told how many so far. Raises ServiceUnavailable when Kafka fails, and ConfigurationError
    where its metrics cannot be served.
    """
    act_as("broker")
    stopping = told_to_end()
    with build(settings) as exchange:
        return exchange.run(stopping, progress)
