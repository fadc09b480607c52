"""At least once: an idempotent producer; offsets follow what is confirmed."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from connectors.kafka.client import KafkaError, KafkaException, Message, Producer
from connectors.kafka.errors import CONTROL_TIMEOUT_S, translated
from connectors.kafka.messages import offset_of
from connectors.kafka.offsets import OffsetTracker, Ticket
from connectors.kafka.topics import Topics
from connectors.logs import kafka_logger
from gateway.ports import Outbox, Stream
from trading.errors import ServiceUnavailable

CONNECT_S = 0.5
#: A delivery that takes so long ends the gateway; what it did not deliver is decided again.
STALLED_AFTER_S = 30.0
SHARED: dict[str, Any] = {
    "enable.idempotence": True,
    "compression.type": "lz4",
    "queue.buffering.max.messages": 50_000,
    # The defaults of 100 ms are what a transaction's first message waits while the last one closes.
    "retry.backoff.ms": 2,
    "retry.backoff.max.ms": 50,
    "reconnect.backoff.max.ms": 1_000,
    "log_level": 3,
}


class KafkaDecisionSink:
    """Implements DecisionSink: no loss, no reordering, no repeat by retry; a repeat after a kill is possible."""

    def __init__(self, bootstrap: str, topics: Topics) -> None:
        self._names = names(topics)
        self._tracker = OffsetTracker()
        self._ends = StreamEnds(topics.decisions)
        self._failure = ""
        self._waiting, self._progress_at = 0, time.monotonic()
        self._producer = Producer(
            {
                **SHARED,
                "bootstrap.servers": bootstrap,
                "linger.ms": 0.5,
                # Never give one message up: a later one could then be delivered without it, and what
                # is published would no longer be the decided prefix of the log. `poll` ends a stall.
                "message.timeout.ms": 0,
            },
            logger=kafka_logger(),
        )
        make_ready(self._producer, topics.decisions)

    def begin(self, partition: int, next_offset: int, decisions_from: int) -> None:
        """Start counting from here."""
        self._tracker.begin(partition, next_offset)
        self._ends.begin(partition, decisions_from)

    def publish(self, outbox: Outbox, wanted: Callable[[int], bool]) -> None:
        """Hand all to the producer."""
        for number, part in outbox.items():
            if not wanted(number):
                continue
            if not self._waiting:
                self._progress_at = time.monotonic()
            ticket = self._tracker.sent(number, part.next_offset, len(part.records))
            for stream, messages in by_stream(part.records).items():
                self._produce(self._names[stream], number, messages, ticket)
        self.poll()

    def safe(self, partition: int) -> int:
        """The confirmed prefix."""
        return self._tracker.safe(partition)

    def decisions_from(self, partition: int) -> int:
        """After the last decision that was confirmed."""
        return self._ends.of(partition)

    def committable(self) -> dict[int, int]:
        """What was confirmed since the last call."""
        return self._tracker.committable()

    def forget(self, partition: int) -> None:
        """Stop counting."""
        self._tracker.forget(partition)
        self._ends.forget(partition)

    def poll(self) -> None:
        """Serve delivery reports."""
        self._producer.poll(0)
        if self._waiting and time.monotonic() - self._progress_at > STALLED_AFTER_S:
            self._failure = f"Kafka has confirmed nothing for {STALLED_AFTER_S:.0f} s"
        self._raise_failure()

    def flush(self, timeout_s: float) -> None:
        """Wait until all is delivered."""
        left = self._producer.flush(timeout_s)
        self._raise_failure()
        if left:
            raise ServiceUnavailable(f"{left} decisions were not delivered within {timeout_s:.0f} s")

    def _produce(self, topic: str, to: int, messages: list[dict[str, Any]], ticket: Ticket) -> None:
        self._waiting += len(messages)

        def make_room() -> None:
            # The queue is bounded: wait for room instead of growing.
            self._producer.poll(0.05)
            self.poll()

        try:
            produce_all(self._producer, topic, to, messages, make_room, partial(self._report, ticket))
        except KafkaException as error:
            raise translated(error, "a decision cannot be produced") from error

    def _report(self, ticket: Ticket, error: KafkaError | None, message: Message) -> None:
        self._waiting -= 1
        self._progress_at = time.monotonic()
        if error is not None:
            self._failure = error.str()
        else:
            self._ends.note(message)
            self._tracker.done(ticket)

    def _raise_failure(self) -> None:
        if self._failure:
            raise ServiceUnavailable(f"a decision was not delivered: {self._failure}")


class StreamEnds:
    """Where the partitions of a topic end, as far as was confirmed."""

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self._ends: dict[int, int] = {}

    def begin(self, partition: int, end: int) -> None:
        """As it was when the partition was rebuilt."""
        self._ends[partition] = end

    def note(self, message: Message) -> None:
        """A message was confirmed."""
        partition = message.partition()
        if message.topic() == self._topic and partition in self._ends:
            self._ends[partition] = offset_of(message) + 1

    def of(self, partition: int) -> int:
        """The end; 0 where nothing is known, which is a bound too."""
        return self._ends.get(partition, 0)

    def forget(self, partition: int) -> None:
        """No longer ours."""
        self._ends.pop(partition, None)


def by_stream(records: list[tuple[Stream, bytes | None, bytes]]) -> dict[Stream, list[dict[str, Any]]]:
    """Messages as `produce_batch` takes them, in order within each stream."""
    found: dict[Stream, list[dict[str, Any]]] = {}
    for stream, key, value in records:
        found.setdefault(stream, []).append({"key": key, "value": value})
    return found


def produce_all(
    producer: Producer,
    topic: str,
    partition: int,
    messages: list[dict[str, Any]],
    make_room: Callable[[], object],
    report: Callable[[Any, Message], None] | None = None,
) -> None:
    """Hand all over, in order. Raises KafkaException."""
    options: dict[str, Any] = {} if report is None else {"on_delivery": report}
    while messages:
        try:
            done = producer.produce_batch(topic, messages, partition=partition, **options)
        except BufferError:
            done = 0
        errors = [message.pop("_error", None) for message in messages]
        refused = [error for error in errors if error is not None]
        # One in the middle was refused and a later one taken: what is published would have a hole.
        hole = any(error is not None for error in errors[:done])
        if refused and (hole or refused[0].code() != KafkaError._QUEUE_FULL):  # noqa: SLF001 - its name
            raise KafkaException(refused[0])
        messages = messages[done:]
        if messages:
            make_room()


def names(topics: Topics) -> dict[Stream, str]:
    """The topic of each stream."""
    return {
        Stream.DECISIONS: topics.decisions,
        Stream.ORDERS: topics.orders,
        Stream.DEAD_LETTERS: topics.dead_letters,
        Stream.SNAPSHOTS: topics.snapshots,
    }


def make_ready(producer: Producer, topic: str) -> None:
    """Connect and get the producer's id now, not while the first tick's budget runs."""
    try:
        producer.list_topics(topic, timeout=CONTROL_TIMEOUT_S)
        producer.poll(CONNECT_S)
    except KafkaException as error:
        raise translated(error, f"{topic} cannot be written to") from error
