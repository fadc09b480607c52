"""Builds the paper broker on Kafka."""

from __future__ import annotations

from connectors.kafka.admin import admin_client
from connectors.kafka.cluster import check_clock, require
from services.paper_broker.broker import answer
from services.paper_broker.exchange import PaperExchange
from services.paper_broker.settings import BrokerSettings


def build(settings: BrokerSettings) -> PaperExchange:
    """Orders of the settings' topic, answered as its fill model says.

    Raises ServiceUnavailable where Kafka does not answer, or has no such topics, ConfigurationError where they are
    dated by their producers.
    """
    for topic in (settings.orders_topic, settings.fills_topic, settings.control_topic):
        require(settings.kafka_bootstrap, topic)
    for topic in (settings.orders_topic, settings.control_topic):
        check_clock(admin_client(settings.kafka_bootstrap), topic)
    model = settings.fill_model()
    return PaperExchange(
        settings.kafka_bootstrap, settings.group, settings.orders_topic, settings.fills_topic,
        settings.control_topic, lambda order, at_ns, stopped: answer(order, at_ns, stopped, model),
    )  # fmt: skip
