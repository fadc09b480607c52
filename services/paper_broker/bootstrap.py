"""Builds the paper broker on Kafka."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from connectors.kafka.cluster import require
from connectors.listening import serve_metrics
from services.paper_broker.broker import PaperAnswers
from services.paper_broker.exchange import PaperExchange
from services.paper_broker.observing import Metrics
from services.paper_broker.settings import BrokerSettings


@contextmanager
def build(settings: BrokerSettings) -> Iterator[PaperExchange]:
    """Orders of the settings' topic, answered as its fill model says.

    Raises:
        ServiceUnavailable: Kafka does not answer, or has no such topics.
        ConfigurationError: the port of its metrics is taken.
    """
    metrics = Metrics()
    for topic in (settings.orders_topic, settings.fills_topic, settings.control_topic):
        require(settings.kafka_bootstrap, topic)
    exchange = PaperExchange(
        settings.kafka_bootstrap, settings.group, settings.orders_topic, settings.fills_topic,
        settings.control_topic, PaperAnswers(settings.fill_model()), metrics,
    )  # fmt: skip
    _, close = serve_metrics(
        metrics.registry, settings.metrics_host, settings.metrics_port, "ULTRATHINK_BROKER_METRICS_PORT"
    )
    try:
        yield exchange
    finally:
        close()
