"""Reading a partition to its end."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import suppress

from connectors.kafka.client import Consumer, KafkaException, Message, Producer, TopicPartition
from connectors.kafka.cluster import require
from connectors.kafka.errors import CONTROL_TIMEOUT_S, translated
from connectors.kafka.messages import is_end, offset_of, usable
from connectors.logs import kafka_logger
from trading.errors import ServiceUnavailable

READ_CHUNK = 5000
#: How long a broker lets a request wait that finds nothing new; then it tells the end, and is asked again. Who
#: reads to an end asks a hundred times a second, who follows a topic for good ten times, and hears as soon.
TO_END_MS, FOLLOWING_MS = 10, 100


def reader(
    bootstrap: str,
    group: str = "ultrathink-reader",
    isolation: str = "read_committed",
    *,
    waits_ms: int = TO_END_MS,
    least_bytes: int = 1,
) -> Consumer:
    """A consumer, read-committed by default, that joins no group and tells the end of a partition.

    Args:
        bootstrap: broker addresses.
        group: that it names, and does not join.
        isolation: of Kafka.
        waits_ms: how long a broker lets it wait where nothing is new; FOLLOWING_MS for one that is kept.
        least_bytes: a broker that has fewer lets it wait as long, too: who need not hear at once asks less often.
    """
    return Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": group,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "isolation.level": isolation,
            "enable.partition.eof": True,
            "fetch.wait.max.ms": waits_ms,
            "fetch.min.bytes": least_bytes,
            "log_level": 3,
        },
        logger=kafka_logger(),
    )


def connect(client: Consumer | Producer, topic: str, timeout_s: float) -> bool:
    """Connect a new client to a broker; returns whether one answered.

    Before it has connected it looks for its coordinator twice a second only. The first answer tells it where the
    brokers are; the second comes from one of them.
    """
    try:
        for _ in range(2):
            client.list_topics(topic, timeout=timeout_s)
    except KafkaException:
        return False
    return True


def consume_ready(consumer: Consumer, count: int, timeout_s: float) -> list[Message]:
    """At most `count` of the messages and events that are there; waits for the first only, and so long at most.

    `Consumer.consume` alone waits its whole timeout for fewer than it may return.
    """
    first = consumer.poll(timeout_s)
    return [] if first is None else [first, *consumer.consume(count - 1, 0.0)]


def read_to_end(
    bootstrap: str,
    topic: str,
    partition: int,
    start: int,
    stop: int | None = None,
    isolation: str = "read_committed",
) -> Iterator[list[Message]]:
    """Chunks of a partition's messages, committed ones alone by default, from `start` to before `stop` or its end.

    Raises:
        ServiceUnavailable: nothing came for ten seconds, and it was not the end.
    """
    if stop is not None and start >= stop:
        return
    consumer = reader(bootstrap, isolation=isolation)
    try:
        consumer.assign([TopicPartition(topic, partition, start)])
        quiet_since = time.monotonic()
        while time.monotonic() - quiet_since < CONTROL_TIMEOUT_S:
            found = consume_ready(consumer, READ_CHUNK, 0.05)
            messages = [m for m in found if usable(m)]
            if stop is not None and messages and offset_of(messages[-1]) >= stop - 1:
                yield [m for m in messages if offset_of(m) < stop]
                return
            if messages:
                yield messages
                # Whoever reads may take his time.
                quiet_since = time.monotonic()
            if any(is_end(m) for m in found):
                return
    except KafkaException as error:
        raise translated(error, f"{topic}[{partition}] cannot be read") from error
    finally:
        consumer.close()
    # A topic that one may not read says nothing at all.
    require(bootstrap, topic)
    raise ServiceUnavailable(f"{topic}[{partition}] cannot be read to its end: nothing came for ten seconds")


def wake(consumer: Consumer, places: list[TopicPartition]) -> None:
    """Have resumed partitions fetched at once: librdkafka notices within a second, or when it asks their leader.

    It drops the connection of a request that it gave up: each is given as long as a leader may take, and after one
    that does not answer no other is asked.
    """
    with suppress(KafkaException):
        for place in places:
            consumer.get_watermark_offsets(place, CONTROL_TIMEOUT_S)


def leave(consumer: Consumer, waking: list[threading.Thread], patience_s: float | None = None) -> None:
    """Close a member, once nobody asks anything of it: that would meet what is freed.

    One that is still asked after `patience_s` is left to the process's end; its place in the group is kept for a
    session's length either way.
    """
    deadline = None if patience_s is None else time.monotonic() + patience_s
    for thread in waking:
        thread.join(None if deadline is None else max(0.0, deadline - time.monotonic()))
    if not any(thread.is_alive() for thread in waking):
        consumer.close()
