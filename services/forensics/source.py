"""The topics on the trail, read without a group: where to go on is the store's to say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any, cast

import structlog

from connectors.kafka.admin import TopicCollection, admin_client
from connectors.kafka.client import Consumer, KafkaException, Message, TopicPartition
from connectors.kafka.cluster import is_absent, no_topic, require
from connectors.kafka.errors import CONTROL_TIMEOUT_S, is_denied, translated
from connectors.kafka.messages import as_bytes, offset_of, partition_of, usable
from connectors.kafka.reading import consume_ready, read_to_end
from connectors.kafka.watermarks import Watermarks
from connectors.logs import kafka_logger
from services.forensics.ports import LogName
from services.forensics.records import Record, encode_headers
from trading.errors import ServiceUnavailable

log = structlog.get_logger()
READER = "ultrathink-forensics"
#: Roles whose topics an older cluster has not got: everything else is recorded meanwhile.
NEWER = frozenset({"starts"})
#: In the place of headers that the client cannot read; no headers are encoded so.
UNREADABLE = b"unreadable"


class KafkaSource:
    """Implements Source."""

    def __init__(self, bootstrap: str, roles: Mapping[str, str]) -> None:
        """Nothing is read yet; `roles` are those of the topics by their names."""
        self._bootstrap, self._roles = bootstrap, dict(roles)
        self._admin = admin_client(bootstrap)
        self._watermarks = Watermarks(bootstrap, READER)
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": READER,
                "enable.auto.commit": False,
                # What was to be read is not there: somebody must know, rather than read on elsewhere.
                "auto.offset.reset": "error",
                "isolation.level": "read_committed",
                # Some large answers rather than many small ones: the brokers have better to do.
                "fetch.min.bytes": 65_536,
                "fetch.wait.max.ms": 250,
                "queued.max.messages.kbytes": 32_768,
                "log_level": 3,
            },
            logger=kafka_logger(),
        )
        self._told: set[str] = set()
        self._names: dict[tuple[str, int], LogName] = {}
        self._wanted: dict[LogName, int] = {}

    def logs(self) -> Mapping[LogName, str]:
        """Raises ServiceUnavailable where a topic is missing that a desk cannot be without."""
        ids = self.topic_ids()
        return {
            LogName(ids[topic], partition, topic): role
            for topic, role in self._roles.items()
            if topic in ids
            for partition in require(self._bootstrap, topic)
        }

    def topic_ids(self) -> Mapping[str, str]:
        """Of those that are there, asked of the brokers every time."""
        found = {}
        described = self._admin.describe_topics(
            TopicCollection(list(self._roles)), request_timeout=CONTROL_TIMEOUT_S
        )
        for name, answer in described.items():
            try:
                found[name] = str(answer.result(CONTROL_TIMEOUT_S).topic_id)
            except KafkaException as error:
                if not is_absent(error) and not (self._roles[name] in NEWER and is_denied(error.args[0])):
                    raise translated(error, "Kafka does not describe the topics on the trail") from error
                if self._roles[name] not in NEWER:
                    raise ServiceUnavailable(no_topic(self._bootstrap, name)) from error
                if name not in self._told:
                    self._told.add(name)
                    log.warning("left out until it is there and may be read: `ultrathink kafka setup`", topic=name)
        return found

    def bounds(self, name: LogName) -> tuple[int, int]:
        """Over connections that are kept for a while."""
        return self._watermarks.bounds(name.topic, name.partition)

    def committed(self, name: LogName, start: int, stop: int) -> Iterator[Record]:
        """By a reader of its own."""
        for messages in read_to_end(self._bootstrap, name.topic, name.partition, start, stop):
            yield from map(to_record, messages)

    def start(self, places: Mapping[LogName, int]) -> None:
        """Instead of what was read before."""
        self._names = {(name.topic, name.partition): name for name in places}
        self._wanted = dict(places)
        self._consumer.assign([TopicPartition(n.topic, n.partition, at) for n, at in places.items()])

    def read(self, count: int, timeout_s: float) -> Mapping[LogName, Sequence[Record]]:
        """Raises ServiceUnavailable where what was to be read is not there any more."""
        try:
            messages = [m for m in consume_ready(self._consumer, count, timeout_s) if usable(m)]
        except KafkaException as error:
            raise translated(error, "the topics on the trail cannot be read") from error
        found: dict[LogName, list[Record]] = {}
        for message in messages:
            name = self._names[str(message.topic()), partition_of(message)]
            offset = offset_of(message)
            # After a seek the same may be delivered twice.
            if offset >= self._wanted[name]:
                self._wanted[name] = offset + 1
                found.setdefault(name, []).append(to_record(message))
        return found

    def close(self) -> None:
        """Disconnect."""
        with closing(self._watermarks):
            self._consumer.close()


def to_record(message: Message) -> Record:
    """A consumed message, byte for byte."""
    kind, time_ms = message.timestamp()
    try:
        headers = encode_headers(told) if (told := cast("Any", message.headers())) else None
    except ValueError:
        # A name that is no text: the client does not give its bytes.
        headers = UNREADABLE
    return Record(
        offset_of(message),
        int(kind),
        int(time_ms),
        as_bytes(message.key()),
        as_bytes(message.value()),
        headers,
    )
