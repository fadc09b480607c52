"""What every Kafka adapter needs: checks, messages as values, reading a partition to its end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from confluent_kafka import (
    TIMESTAMP_NOT_AVAILABLE,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)
from msgspec import Struct

from gateway.domain.errors import ConfigurationError, ServiceUnavailable
from gateway.domain.trace import HEADER
from gateway.logs import kafka_logger

CONTROL_TIMEOUT_S = 10.0
REQUIRE_S = 5.0
READ_CHUNK = 5000
RETRY_S = 0.1
PASSING = {
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError._TRANSPORT,  # noqa: SLF001 - its name
    KafkaError._ALL_BROKERS_DOWN,  # noqa: SLF001 - its name
}
MS = 1_000_000
#: What fits an int64; a timestamp in another unit would not.
LATEST_NS = 2**62


class Topics(Struct, frozen=True):
    """Names. All but `control` have the same number of partitions: what belongs to a tick lies beside it."""

    ticks: str = "market.ticks"
    decisions: str = "trading.decisions"
    dead_letters: str = "market.ticks.dlq"
    snapshots: str = "gateway.snapshots"
    control: str = "gateway.control"
    orders: str = "trading.orders"
    fills: str = "trading.fills"


class Cluster(Struct, frozen=True):
    """The common number of partitions, and a name that only these very logs have."""

    partitions: int
    log: str


def check_cluster(bootstrap: str, topics: Topics, group: str) -> Cluster:
    """Look at the topics.

    Raises:
        ServiceUnavailable: no broker answers.
        ConfigurationError: a topic is missing, or they are partitioned differently: a decision
            must lie in the partition of its tick.
    """
    from confluent_kafka import TopicCollection
    from confluent_kafka.admin import AdminClient

    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    try:
        found = admin.list_topics(timeout=CONTROL_TIMEOUT_S)
    except KafkaException as error:
        raise ServiceUnavailable(
            f"Kafka at {bootstrap} does not answer: start it with `ultrathink stack up` ({error.args[0].str()})"
        ) from error
    beside = [
        topics.ticks, topics.decisions, topics.dead_letters, topics.snapshots, topics.orders, topics.fills,
    ]  # fmt: skip
    missing = [n for n in (*beside, topics.control) if n not in found.topics]
    if missing:
        raise ConfigurationError(f"topic {', '.join(missing)} does not exist on {bootstrap}: create it first")
    counts = {n: len(found.topics[n].partitions) for n in beside}
    if len(set(counts.values())) != 1:
        raise ConfigurationError(f"the topics must have the same number of partitions: {counts}")
    names = [topics.ticks, topics.decisions]
    try:
        described = admin.describe_topics(TopicCollection(names))
        ids = [str(described[name].result(CONTROL_TIMEOUT_S).topic_id) for name in names]
    except KafkaException as error:
        raise ServiceUnavailable(f"Kafka does not describe its topics: {error.args[0].str()}") from error
    return Cluster(next(iter(counts.values())), "/".join([str(found.cluster_id), *ids, group]))


def require(bootstrap: str, topic: str) -> None:
    """A broker answers and has the topic; asked without a word from librdkafka. Raises ServiceUnavailable."""
    from confluent_kafka.admin import AdminClient

    try:
        found = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0}).list_topics(topic, timeout=REQUIRE_S)
    except KafkaException as error:
        raise ServiceUnavailable(
            f"Kafka at {bootstrap} does not answer: start it with `ultrathink stack up` ({error.args[0].str()})"
        ) from error
    if found.topics[topic].error is not None:
        raise ServiceUnavailable(f"Kafka at {bootstrap} has no topic {topic}: {found.topics[topic].error}")


def reader(bootstrap: str, group: str = "ultrathink-reader") -> Consumer:
    """A read-committed consumer that joins no group and tells the end of a partition."""
    return Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": group,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 10,
            "log_level": 3,
        },
        logger=kafka_logger(),
    )


def read_to_end(
    bootstrap: str, topic: str, partition: int, start: int, stop: int | None = None
) -> Iterator[list[Message]]:
    """Chunks of a partition's committed messages from `start` to before `stop`, or to the end as it is.

    Raises:
        ServiceUnavailable: nothing came for ten seconds, and it was not the end.
    """
    if stop is not None and start >= stop:
        return
    consumer = reader(bootstrap)
    try:
        consumer.assign([TopicPartition(topic, partition, start)])
        quiet_since = time.monotonic()
        while time.monotonic() - quiet_since < CONTROL_TIMEOUT_S:
            found = consumer.consume(READ_CHUNK, 0.05)
            messages = [m for m in found if usable(m)]
            if stop is not None and messages and offset_of(messages[-1]) >= stop - 1:
                yield [m for m in messages if offset_of(m) < stop]
                return
            if messages:
                quiet_since = time.monotonic()
                yield messages
            if any(is_end(m) for m in found):
                return
    except KafkaException as error:
        raise ServiceUnavailable(f"{topic}[{partition}] cannot be read: {error.args[0].str()}") from error
    finally:
        consumer.close()
    raise ServiceUnavailable(f"{topic}[{partition}] cannot be read to its end: nothing came for ten seconds")


def bounds(bootstrap: str, topic: str, partition: int) -> tuple[int, int]:
    """The first offset, and the one after the last. Raises ServiceUnavailable.

    A broker that has just come back says for a moment that it does not lead its partitions.
    """
    consumer, deadline = reader(bootstrap), time.monotonic() + CONTROL_TIMEOUT_S
    try:
        while True:
            try:
                low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), CONTROL_TIMEOUT_S)
            except KafkaException as error:
                if time.monotonic() > deadline or not passes(error.args[0]):
                    raise ServiceUnavailable(
                        f"{topic}[{partition}] cannot be read: {error.args[0].str()}"
                    ) from error
                time.sleep(RETRY_S)
            else:
                return int(low), int(high)
    finally:
        consumer.close()


def passes(error: KafkaError) -> bool:
    """Whether the same may succeed in a moment."""
    return bool(error.retriable()) or error.code() in PASSING


def is_end(message: Message) -> bool:
    """Whether this event says that the partition has no more for now."""
    error = message.error()
    return error is not None and bool(error.code() == KafkaError._PARTITION_EOF)  # noqa: SLF001 - its name


def usable(message: Message) -> bool:
    """A message rather than an event. Raises ServiceUnavailable for an error that does not pass."""
    error = message.error()
    if error is None:
        return True
    if error.fatal() or error.code() in {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
    }:
        raise ServiceUnavailable(f"Kafka: {error.str()}")
    return False


def partition_of(message: Message) -> int:
    """The partition of a consumed message."""
    return int(message.partition() or 0)


def offset_of(message: Message) -> int:
    """The offset of a consumed message."""
    return int(message.offset() or 0)


def sent_ns(message: Message, received_ns: int) -> int:
    """When the producer sent it, to the millisecond; the receive time where that is unknown."""
    kind, time_ms = message.timestamp()
    return received_ns if kind == TIMESTAMP_NOT_AVAILABLE else min(int(time_ms) * MS, LATEST_NS)


def traceparent(message: Message) -> bytes | None:
    """The W3C header, where the producer sent one."""
    headers: Any = message.headers()
    return next((as_bytes(value) for name, value in headers if name == HEADER), None) if headers else None


def as_bytes(value: Any) -> bytes | None:
    """Kafka's keys and values are bytes or absent."""
    return value if value is None or isinstance(value, bytes) else str(value).encode()
