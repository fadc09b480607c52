"""Cancels on their way to the broker: a producer of their own, so that no transaction holds one up."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import structlog

from connectors.kafka.client import KafkaException, Producer
from connectors.kafka.errors import CONTROL_TIMEOUT_S, translated
from connectors.logs import kafka_logger
from trading.encoding import encode
from trading.events import CancelOrder

log = structlog.get_logger()
TIMEOUT_MS = 10_000
CLOSE_S = 5.0


class KafkaCancels:
    """Implements CancelSink. A cancel may come twice: the broker ends an order once."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        """Connect. Raises ServiceUnavailable.

        Args:
            bootstrap: broker addresses.
            topic: of the orders; the cancel of one lies behind it in the same partition.
        """
        self._topic = topic
        self._failed: dict[int, set[int]] = {}
        # Not idempotent: that could end in an error that a restart alone ends, and stopping must not fail.
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "acks": "all",
                "linger.ms": 0,
                "message.timeout.ms": TIMEOUT_MS,
                "retry.backoff.ms": 2,
                "retry.backoff.max.ms": 50,
                "reconnect.backoff.max.ms": 1_000,
                "log_level": 3,
            },
            logger=kafka_logger(),
        )
        try:
            # Now, not when the desk must stop.
            self._producer.list_topics(topic, timeout=CONTROL_TIMEOUT_S)
        except KafkaException as error:
            raise translated(error, "Kafka does not answer") from error

    def send(self, partition: int, cancels: Sequence[CancelOrder]) -> None:
        """Hand all to the producer; what it does not take counts as undelivered."""
        for cancel in cancels:
            report = partial(self._report, partition, cancel.number)
            try:
                self._producer.produce(
                    self._topic, encode(cancel), cancel.symbol.encode(), partition=partition, on_delivery=report
                )
            except (KafkaException, BufferError) as error:
                report(error, None)
        self._producer.poll(0)

    def undelivered(self) -> dict[int, set[int]]:
        """As the producer has reported since."""
        self._producer.poll(0)
        found, self._failed = self._failed, {}
        return found

    def close(self) -> None:
        """Deliver what is on its way."""
        if left := self._producer.flush(CLOSE_S):
            log.error("cancels were not delivered", topic=self._topic, count=left)

    def _report(self, partition: int, number: int, error: Any, _: object) -> None:
        if error is not None:
            log.warning("a cancel was not delivered", partition=partition, number=number, reason=str(error)[:200])
            self._failed.setdefault(partition, set()).add(number)
