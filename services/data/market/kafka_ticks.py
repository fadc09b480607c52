"""The ticks' topic, read without a group: where to go on is the archive's to say."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import closing

from connectors.kafka.admin import TopicCollection, admin_client
from connectors.kafka.client import Consumer, KafkaException, TopicPartition
from connectors.kafka.cluster import check_clock, require
from connectors.kafka.errors import CONTROL_TIMEOUT_S, translated, translating
from connectors.kafka.logged import logged
from connectors.kafka.messages import offset_of, partition_of, usable
from connectors.kafka.reading import consume_ready
from connectors.kafka.watermarks import Watermarks
from connectors.logs import kafka_logger
from trading.errors import ServiceUnavailable
from trading.state.log import LoggedMessage

READER = "ultrathink-data"
AT_ONCE = 2000
#: A topic's id is asked for so often while it is read: it may be made anew.
LOOK_S = 10.0


class KafkaTickLog:
    """Implements TickLog."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        """Nothing is asked yet."""
        self._bootstrap, self._topic = bootstrap, topic
        self._watermarks = Watermarks(bootstrap, READER)
        # Kept: the answer to what is asked of one that is let go never comes.
        self._admin = admin_client(bootstrap)
        self._consumer: Consumer | None = None
        self._wanted: dict[int, int] = {}
        self._id, self._looked_s = "", 0.0

    def topic_id(self) -> str:
        """Asked of the brokers. Raises ConfigurationError where its producers date it."""
        require(self._bootstrap, self._topic)
        check_clock(self._admin, self._topic)
        self._id, _ = self._described()
        return self._id

    def _described(self) -> tuple[str, int]:
        """The topic's id, and how many partitions it has."""
        with translating(f"Kafka does not describe {self._topic}"):
            asked = self._admin.describe_topics(TopicCollection([self._topic]), request_timeout=CONTROL_TIMEOUT_S)
            found = asked[self._topic].result(CONTROL_TIMEOUT_S)
        return str(found.topic_id), len(found.partitions)

    def bounds(self) -> Mapping[int, tuple[int, int]]:
        """Of every partition."""
        return {
            partition: self._watermarks.bounds(self._topic, partition)
            for partition in require(self._bootstrap, self._topic)
        }

    def start(self, places: Mapping[int, int]) -> None:
        """With a new client, whatever became of the last."""
        self._close_consumer()
        self._consumer = Consumer(
            {
                "bootstrap.servers": self._bootstrap,
                "group.id": READER,
                "enable.auto.commit": False,
                # What was to be read is not there: that is looked at, rather than read on elsewhere.
                "auto.offset.reset": "error",
                "isolation.level": "read_committed",
                # A tick may wait a moment for others: many at once cost a part of what one by one does.
                "fetch.min.bytes": 65_536,
                "fetch.wait.max.ms": 50,
                "queued.max.messages.kbytes": 16_384,
                "log_level": 3,
            },
            logger=kafka_logger(),
        )
        self._wanted = dict(places)
        with translating(f"{self._topic} cannot be read"):
            self._consumer.assign([TopicPartition(self._topic, p, at) for p, at in places.items()])
        self._looked_s = time.monotonic()

    def read(self, timeout_s: float) -> Mapping[int, Sequence[LoggedMessage]]:
        """Raises ServiceUnavailable where what was to be read is gone, or the topic is another."""
        if self._consumer is None:
            return {}
        if time.monotonic() - self._looked_s > LOOK_S:
            self._look()
        try:
            messages = [m for m in consume_ready(self._consumer, AT_ONCE, timeout_s) if usable(m)]
        except KafkaException as error:
            raise translated(error, f"{self._topic} cannot be read") from error
        now_ns = time.time_ns()
        found: dict[int, list[LoggedMessage]] = {}
        for message in messages:
            partition, offset = partition_of(message), offset_of(message)
            # After a seek the same may be delivered twice.
            if offset >= self._wanted[partition]:
                self._wanted[partition] = offset + 1
                found.setdefault(partition, []).append(logged(message, now_ns))
        return found

    def close(self) -> None:
        """Disconnect."""
        with closing(self._watermarks):
            self._close_consumer()

    def _look(self) -> None:
        self._looked_s = time.monotonic()
        topic_id, count = self._described()
        if topic_id != self._id:
            raise ServiceUnavailable(f"{self._topic} was made anew while it was read")
        if count > len(self._wanted):
            raise ServiceUnavailable(
                f"{self._topic} has {count} partitions now, of which {len(self._wanted)} are read"
            )

    def _close_consumer(self) -> None:
        if self._consumer is not None:
            self._consumer.close()
            self._consumer = None
