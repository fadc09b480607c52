"""Kafka: ticks in, decisions and dead letters out, and the recovery of a partition from its log."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import msgspec
from confluent_kafka import (
    OFFSET_INVALID,
    TIMESTAMP_NOT_AVAILABLE,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)

from gateway.domain.codec import decode_decision, decode_tick, encode
from gateway.domain.errors import ConfigurationError, ServiceUnavailable
from gateway.domain.schemas import DeadLetter, Decision, Tick
from gateway.ports import Delivered, RawBatch
from gateway.state import GatewayState

CONTROL_TIMEOUT_S = 10.0
REPLAY_CHUNK = 5000
MS = 1_000_000


def check_topics(bootstrap: str, names: list[str]) -> int:
    """The common number of partitions.

    Raises:
        ServiceUnavailable: no broker answers.
        ConfigurationError: a topic is missing, or they are partitioned differently: a decision
            must lie in the partition of its tick.
    """
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "ultrathink-check", "log_level": 0})
    try:
        topics = consumer.list_topics(timeout=CONTROL_TIMEOUT_S).topics
    except KafkaException as error:
        raise ServiceUnavailable(
            f"Kafka at {bootstrap} does not answer: start it with `ultrathink stack up` ({error.args[0].str()})"
        ) from error
    finally:
        consumer.close()
    missing = [n for n in names if n not in topics]
    if missing:
        raise ConfigurationError(f"topic {', '.join(missing)} does not exist on {bootstrap}: create it first")
    counts = {n: len(topics[n].partitions) for n in names}
    if len(set(counts.values())) != 1:
        raise ConfigurationError(f"the topics must have the same number of partitions: {counts}")
    return next(iter(counts.values()))


class KafkaTickSource:
    """Implements TickSource with a consumer group; calls back when partitions come and go."""

    def __init__(
        self,
        bootstrap: str,
        group: str,
        topic: str,
        assigned: Callable[[int], int],
        revoked: Callable[[list[int]], None],
        lost: Callable[[list[int]], None],
    ) -> None:
        """Join the group.

        Args:
            bootstrap: broker addresses.
            group: consumer group.
            topic: ticks.
            assigned: given a partition, restores its state and returns the offset to read from.
            revoked: finishes and forgets partitions that are being given away.
            lost: forgets partitions that another gateway has already.
        """
        self.topic = topic
        self._assigned, self._revoked, self._lost = assigned, revoked, lost
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": group,
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": "earliest",
                "isolation.level": "read_committed",
                "partition.assignment.strategy": "cooperative-sticky",
                "session.timeout.ms": 10_000,
                "fetch.wait.max.ms": 100,
                "queued.max.messages.kbytes": 16_384,
                "log_level": 3,
            }
        )
        self._consumer.subscribe([topic], self._on_assign, self._on_revoke, self._on_lost)

    def poll(self, max_messages: int, timeout_s: float) -> RawBatch | None:
        """One message by poll, the rest by consume: consume alone would wait its whole timeout."""
        first = self._consumer.poll(timeout_s)
        if first is None:
            return None
        messages = [first, *self._consumer.consume(max_messages - 1, 0)]
        received_ns = time.time_ns()
        good = [m for m in messages if usable(m)]
        if not good:
            return None
        return RawBatch(
            partitions=[partition_of(m) for m in good],
            offsets=[offset_of(m) for m in good],
            sent_ns=[sent_ns(m, received_ns) for m in good],
            keys=[as_bytes(m.key()) for m in good],
            payloads=[as_bytes(m.value()) for m in good],
            received_ns=received_ns,
        )

    def commit(self, next_offsets: dict[int, int], *, wait: bool = False) -> None:
        """Commit; a failed commit only makes a restart replay more."""
        if not next_offsets:
            return
        offsets = [TopicPartition(self.topic, p, n) for p, n in next_offsets.items()]
        try:
            if wait:
                self._consumer.commit(offsets=offsets, asynchronous=False)
            else:
                self._consumer.commit(offsets=offsets, asynchronous=True)
        except KafkaException as error:
            if wait and error.args[0].code() not in {KafkaError._NO_OFFSET, KafkaError.UNKNOWN_MEMBER_ID}:  # noqa: SLF001
                raise ServiceUnavailable(f"offsets were not committed: {error.args[0].str()}") from error

    def close(self) -> None:
        """Leave the group."""
        self._consumer.close()

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        starts = [TopicPartition(self.topic, p.partition, self._assigned(p.partition)) for p in partitions]
        consumer.incremental_assign(starts)

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._revoked([p.partition for p in partitions])
        consumer.incremental_unassign(partitions)

    def _on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._lost([p.partition for p in partitions])
        consumer.incremental_unassign(partitions)


class KafkaDecisionSink:
    """Implements DecisionSink with an idempotent producer: no loss, no reordering, no repeat by retry."""

    def __init__(self, bootstrap: str, decisions: str, dead_letters: str, delivered: Delivered) -> None:
        self._decisions, self._dead_letters, self._delivered = decisions, dead_letters, delivered
        self._failure = ""
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "enable.idempotence": True,
                "linger.ms": 0.5,
                "compression.type": "lz4",
                "message.timeout.ms": 30_000,
                "queue.buffering.max.messages": 50_000,
                "retry.backoff.ms": 5,
                "retry.backoff.max.ms": 50,
                "log_level": 3,
            }
        )

    def decision(self, partition: int, offset: int, decision: Decision) -> None:
        """Publish beside the tick: same key, same partition number."""
        key = decision.symbol.encode()
        self._produce(self._decisions, partition, key, encode(decision), partition, offset)

    def dead_letter(self, letter: DeadLetter) -> None:
        """Publish what is no tick, with its place and reason."""
        key = None if letter.key is None else letter.key.encode()
        self._produce(self._dead_letters, letter.partition, key, encode(letter), letter.partition, letter.offset)

    def poll(self) -> None:
        """Serve delivery reports."""
        self._producer.poll(0)
        self._raise_failure()

    def flush(self, timeout_s: float) -> None:
        """Wait until all is delivered."""
        left = self._producer.flush(timeout_s)
        self._raise_failure()
        if left:
            raise ServiceUnavailable(f"{left} decisions were not delivered within {timeout_s:.0f} s")

    def _produce(self, topic: str, to: int, key: bytes | None, value: bytes, partition: int, offset: int) -> None:
        report = partial(self._report, partition, offset)
        while True:
            try:
                self._producer.produce(topic, value, key, partition=to, on_delivery=report)
            except BufferError:
                # The queue is bounded: wait for room instead of growing.
                self._producer.poll(0.05)
                self._raise_failure()
            else:
                return

    def _report(self, partition: int, offset: int, error: KafkaError | None, _: Message) -> None:
        if error is not None:
            self._failure = error.str()
        else:
            self._delivered(partition, offset)

    def _raise_failure(self) -> None:
        if self._failure:
            raise ServiceUnavailable(f"a decision was not delivered: {self._failure}")


class KafkaRecovery:
    """Rebuilds a partition's state from its log, without deciding anything again.

    Decisions of a partition are published in the order of its ticks, so what is published is the
    decided prefix of the log: it holds the positions, and where to go on, even where the offset
    commit came too late. Whatever is in flight at a kill is therefore neither lost nor repeated.
    """

    def __init__(self, bootstrap: str, group: str, ticks: str, decisions: str) -> None:
        self._bootstrap, self._group, self._ticks, self._decisions = bootstrap, group, ticks, decisions

    def restore(self, partition: int, state: GatewayState) -> int:
        """Returns the offset of the first undecided tick. Raises ServiceUnavailable."""
        try:
            return self._restore(partition, state)
        except msgspec.DecodeError as error:
            raise ConfigurationError(
                f"{self._decisions}[{partition}] holds something that is no decision of this version "
                f"({error}): name another topic with ULTRATHINK_GATEWAY_DECISIONS_TOPIC"
            ) from error
        except KafkaException as error:
            raise ServiceUnavailable(
                f"partition {partition} cannot be rebuilt from its log: {error.args[0].str()}"
            ) from error

    def _restore(self, partition: int, state: GatewayState) -> int:
        state.drop(partition)
        low, _ = self._bounds(self._ticks, partition)
        following = max(low, self._committed(partition))
        book = state.of(partition).book
        for message in self._read(self._decisions, partition, None):
            decision = decode_decision(as_bytes(message.value()) or b"")
            book.set_quantity(decision.symbol, decision.position_after)
            following = max(following, int(decision.decision_id.rpartition("-")[2]) + 1)
        chunk: list[Tick] = []
        for message in self._read(self._ticks, partition, following):
            tick = decode_tick(as_bytes(message.value()))
            if isinstance(tick, Tick):
                chunk.append(tick)
            if len(chunk) >= REPLAY_CHUNK:
                state.replay(partition, chunk)
                chunk = []
        state.replay(partition, chunk)
        return following

    def _committed(self, partition: int) -> int:
        consumer = self._consumer(self._group)
        try:
            (found,) = consumer.committed([TopicPartition(self._ticks, partition)], CONTROL_TIMEOUT_S)
        finally:
            consumer.close()
        return int(found.offset) if found.offset >= 0 else 0

    def _bounds(self, topic: str, partition: int) -> tuple[int, int]:
        consumer = self._consumer("ultrathink-recovery")
        try:
            low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), CONTROL_TIMEOUT_S)
        finally:
            consumer.close()
        return int(low), int(high)

    def _read(self, topic: str, partition: int, stop: int | None) -> Iterator[Message]:
        """Messages from the first to before `stop`, or to the end of the log as it is now."""
        low, high = self._bounds(topic, partition)
        end = high if stop is None else min(stop, high)
        if low >= end:
            return
        consumer = self._consumer("ultrathink-recovery")
        try:
            consumer.assign([TopicPartition(topic, partition, low)])
            deadline = time.monotonic() + CONTROL_TIMEOUT_S
            while read_up_to(consumer, topic, partition) < end:
                messages = [m for m in consumer.consume(REPLAY_CHUNK, 0.1) if usable(m)]
                if messages:
                    deadline = time.monotonic() + CONTROL_TIMEOUT_S
                elif time.monotonic() > deadline:
                    raise ServiceUnavailable(f"{topic}[{partition}] cannot be read up to offset {end}")
                yield from (m for m in messages if offset_of(m) < end)
        finally:
            consumer.close()

    def _consumer(self, group: str) -> Consumer:
        return Consumer(
            {
                "bootstrap.servers": self._bootstrap,
                "group.id": group,
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "isolation.level": "read_committed",
                "log_level": 3,
            }
        )


def read_up_to(consumer: Consumer, topic: str, partition: int) -> int:
    """The offset after the last message that was read; -1 before the first."""
    (position,) = consumer.position([TopicPartition(topic, partition)])
    return -1 if position.offset == OFFSET_INVALID else int(position.offset)


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
    return received_ns if kind == TIMESTAMP_NOT_AVAILABLE else int(time_ms) * MS


def as_bytes(value: Any) -> bytes | None:
    """Kafka's keys and values are bytes or absent."""
    return value if value is None or isinstance(value, bytes) else str(value).encode()
