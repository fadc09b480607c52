"""Builds the paper broker on Kafka."""

from __future__ import annotations

from connectors.kafka.cluster import require
from services.paper_broker.broker import PaperAnswers
from services.paper_broker.exchange import PaperExchange
from services.paper_broker.settings import BrokerSettings


def build(settings: BrokerSettings) -> PaperExchange:
    """Orders of the settings' topic, answered as its fill model says.

    Raises ServiceUnavailable where Kafka does not answer, or has no such topics.
    """
    for topic in (settings.orders_topic, settings.fills_topic, settings.control_topic):
        require(settings.kafka_bootstrap, topic)
    return PaperExchange(
        settings.kafka_bootstrap, settings.group, settings.orders_topic, settings.fills_topic,
        settings.control_topic, PaperAnswers(settings.fill_model()),
    )  # fmt: skip
