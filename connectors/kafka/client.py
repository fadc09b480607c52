"""The client's classes, for those who read and write with them: nobody else imports it.

Whoever connects says who he is, where that is asked for: connectors/kafka/identity.py.
"""

from typing import Any

import confluent_kafka
from confluent_kafka import (
    OFFSET_BEGINNING,
    TIMESTAMP_NOT_AVAILABLE,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from connectors.kafka.identity import credentials

__all__ = [
    "OFFSET_BEGINNING",
    "TIMESTAMP_NOT_AVAILABLE",
    "Consumer",
    "KafkaError",
    "KafkaException",
    "Message",
    "Producer",
    "TopicPartition",
]


class Producer(confluent_kafka.Producer):
    """A producer of this process's role. Raises ConfigurationError where its password cannot be read."""

    def __init__(self, config: dict[str, Any], **more: Any) -> None:
        super().__init__({**credentials(), **config}, **more)


class Consumer(confluent_kafka.Consumer):
    """A consumer of this process's role. Raises ConfigurationError where its password cannot be read."""

    def __init__(self, config: dict[str, Any], **more: Any) -> None:
        super().__init__({**credentials(), **config}, **more)
