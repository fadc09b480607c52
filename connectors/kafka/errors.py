"""What Kafka's client raises, as our errors."""

from __future__ import annotations

from confluent_kafka import KafkaError

CONTROL_TIMEOUT_S = 10.0
PASSING = {
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError._TRANSPORT,  # noqa: SLF001 - its name
    KafkaError._ALL_BROKERS_DOWN,  # noqa: SLF001 - its name
}


def passes(error: KafkaError) -> bool:
    """Whether the same may succeed in a moment."""
    return bool(error.retriable()) or error.code() in PASSING
