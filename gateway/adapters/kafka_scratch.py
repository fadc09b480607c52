"""Rounds of a rehearsal: ticks go to the scratch topic, are read, asked of the model, published, and read again."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from connectors.kafka.client import Producer, TopicPartition
from connectors.kafka.errors import translating
from connectors.kafka.messages import usable
from connectors.kafka.reading import consume_ready, reader
from connectors.kafka.topics import Topics
from connectors.kafka.watermarks import UNCOMMITTED, bounds
from connectors.logs import kafka_logger
from gateway.adapters.kafka_sink import SHARED, KafkaDecisionSink
from gateway.adapters.kafka_transactions import TransactionalSink
from gateway.ports import DecisionSink, PartitionOutbox, Stream
from trading.errors import ServiceUnavailable

#: Of a scratch topic there is one.
PARTITION = 0
#: What is not answered within this is not rehearsed.
ROUND_S = 2.0
#: As long as what is published usually is.
TICK, DECISION = bytes(200), bytes(1200)


class ScratchRounds:
    """A producer, a consumer and a sink of their own; their group and transactions bear the gateway's name."""

    def __init__(
        self,
        bootstrap: str,
        topics: Topics,
        group: str,
        instance: str,
        *,
        exactly_once: bool,
        predict: Callable[[int], object],
    ) -> None:
        """Connect. Raises ServiceUnavailable.

        Args:
            bootstrap: broker addresses.
            topics: of the desk; all that is written goes to its scratch topic.
            group: of the gateways.
            instance: of this one: it reads its own records and nobody else's.
            exactly_once: whether decisions are published in transactions.
            predict: asks the model for so many rows.
        """
        self._topic, self._key, self._predict = topics.scratch, f"{group} {instance}".encode(), predict
        nowhere = Topics(**dict.fromkeys(Topics.__struct_fields__, topics.scratch))
        rehearsing = f"{group}-rehearsal-{instance}"
        # Not idempotent: such a producer waits half a second for its number.
        sending = {**SHARED, "enable.idempotence": False, "acks": "all", "linger.ms": 0}
        self._producer = Producer({**sending, "bootstrap.servers": bootstrap}, logger=kafka_logger())
        self._consumer = reader(bootstrap, rehearsing, UNCOMMITTED)
        try:
            # Another gateway that was killed in its rehearsal leaves a transaction open: nobody waits for that.
            end = bounds(bootstrap, topics.scratch, PARTITION, UNCOMMITTED)[1]
            with translating(f"{topics.scratch} cannot be read"):
                self._consumer.assign([TopicPartition(topics.scratch, PARTITION, end)])
                metadata = self._consumer.consumer_group_metadata()
            self._sink: DecisionSink = (
                TransactionalSink(bootstrap, nowhere, rehearsing, instance, "", lambda _: metadata, ROUND_S)
                if exactly_once
                else KafkaDecisionSink(bootstrap, nowhere)
            )
        except BaseException:
            self._consumer.close()
            raise
        # Decisions of an earlier rehearsal are alike.
        self._sink.begin(PARTITION, 0, end)
        self._next = 0

    def play(self, rows: int) -> None:
        """One round. Raises ServiceUnavailable where it does not come to an end."""
        records: list[Any] = [(Stream.DECISIONS, self._key, DECISION)] * rows
        with translating(f"{self._topic} cannot be used"):
            for _ in range(rows):
                self._producer.produce(self._topic, TICK, self._key, PARTITION)
            self._producer.poll(0)
            self._read(rows, TICK)
            self._predict(rows)
            self._next += rows
            self._sink.publish({PARTITION: PartitionOutbox(records, self._next)}, lambda _: True)
            self._read(rows, DECISION)

    def close(self) -> None:
        """Leave nothing open."""
        try:
            self._producer.flush(1.0)
            # It would take the place of a stop that ends the rehearsal.
            with suppress(ServiceUnavailable):
                self._sink.flush(1.0)
        finally:
            self._consumer.close()

    def _read(self, count: int, value: bytes) -> None:
        deadline = time.monotonic() + ROUND_S
        while count > 0:
            if time.monotonic() > deadline:
                raise ServiceUnavailable(f"{self._topic} gave nothing back within {ROUND_S:.0f} s")
            found = consume_ready(self._consumer, 1000, 0.05)
            # Another gateway may rehearse too.
            count -= sum(usable(m) and m.key() == self._key and m.value() == value for m in found)
