"""One record, written and waited for."""

from __future__ import annotations

from typing import Any

from connectors.kafka.client import KafkaError, KafkaException, Message, Producer
from connectors.kafka.errors import CONTROL_TIMEOUT_S, translating
from trading.errors import ServiceUnavailable


def producing(*, once: bool) -> dict[str, Any]:
    """How a producer is set up for one record."""
    return {
        "enable.idempotence": once,
        "acks": "all",
        "message.timeout.ms": int(CONTROL_TIMEOUT_S * 1000),
        "log_level": 0,
    }


def write_one(
    bootstrap: str, topic: str, payload: bytes, key: str | bytes | None, what: str, *, once: bool = True
) -> None:
    """Write a record into partition 0, and return when the brokers have it.

    Args:
        bootstrap: broker addresses.
        topic: with one partition.
        payload, key: of the record.
        what: it is, for the error.
        once: never twice, whatever answers are lost; such a producer waits half a second for its number.

    Raises:
        ServiceUnavailable: it did not reach the log.
    """
    failures: list[KafkaError] = []

    def report(error: KafkaError | None, _: Message) -> None:
        if error is not None:
            failures.append(error)

    producer = Producer({"bootstrap.servers": bootstrap, **producing(once=once)})
    with translating(f"{what} did not reach {topic} on {bootstrap}"):
        producer.produce(topic, payload, key, partition=0, on_delivery=report)
        left = producer.flush(CONTROL_TIMEOUT_S + 1)
        if failures:
            raise KafkaException(failures[0])
    if left:
        raise ServiceUnavailable(f"{what} did not reach {topic} on {bootstrap}: no answer")
