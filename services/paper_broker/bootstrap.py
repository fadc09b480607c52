"""Builds the paper broker on Kafka."""

from __future__ import annotations

from services.paper_broker.broker import reports
from services.paper_broker.exchange import PaperExchange
from services.paper_broker.settings import BrokerSettings


def build(settings: BrokerSettings) -> PaperExchange:
    """Orders of the settings' topic, answered as its fill model says."""
    model = settings.fill_model()
    return PaperExchange(
        settings.kafka_bootstrap, settings.group, settings.orders_topic, settings.fills_topic,
        lambda order: reports(order, model),
    )  # fmt: skip
