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

from gateway.domain.admission import admit
from gateway.domain.codec import decode_decision, encode
from gateway.domain.dead_letters import dead_letter
from gateway.domain.errors import ConfigurationError, ServiceUnavailable
from gateway.domain.schemas import DeadLetter, Decision, Tick
from gateway.ports import Delivered, RawBatch
from gateway.state import GatewayState

CONTROL_TIMEOUT_S = 10.0
REPLAY_CHUNK = 5000
CONNECT_S = 0.5
MS = 1_000_000
#: A delivery that takes so long ends the gateway; what it did not deliver is decided again.
STALLED_AFTER_S = 30.0
#: What fits an int64; a timestamp in another unit would not.
LATEST_NS = 2**62
#: Nothing to commit, or a rebalance is under way: a restart replays a little more.
HARMLESS_COMMIT_ERRORS = {
    KafkaError._NO_OFFSET,  # noqa: SLF001 - the name that librdkafka gave it
    KafkaError.UNKNOWN_MEMBER_ID,
    KafkaError.REBALANCE_IN_PROGRESS,
    KafkaError.ILLEGAL_GENERATION,
}


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
        self._owned: set[int] = set()
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
        # A rebalance may have been served between the two calls: its ticks are another gateway's now.
        good = [m for m in messages if usable(m) and partition_of(m) in self._owned]
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
            if wait and error.args[0].code() not in HARMLESS_COMMIT_ERRORS:
                raise ServiceUnavailable(f"offsets were not committed: {error.args[0].str()}") from error

    def close(self) -> None:
        """Leave the group."""
        self._consumer.close()

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        starts = [TopicPartition(self.topic, p.partition, self._assigned(p.partition)) for p in partitions]
        self._owned.update(p.partition for p in partitions)
        consumer.incremental_assign(starts)

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._owned.difference_update(p.partition for p in partitions)
        self._revoked([p.partition for p in partitions])
        consumer.incremental_unassign(partitions)

    def _on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._owned.difference_update(p.partition for p in partitions)
        self._lost([p.partition for p in partitions])
        consumer.incremental_unassign(partitions)


class KafkaDecisionSink:
    """Implements DecisionSink with an idempotent producer: no loss, no reordering, no repeat by retry."""

    def __init__(self, bootstrap: str, decisions: str, dead_letters: str, delivered: Delivered) -> None:
        self._decisions, self._dead_letters, self._delivered = decisions, dead_letters, delivered
        self._failure = ""
        self._waiting, self._progress_at = 0, time.monotonic()
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "enable.idempotence": True,
                "linger.ms": 0.5,
                "compression.type": "lz4",
                # Never give one message up: a later one could then be delivered without it, and what
                # is published would no longer be the decided prefix of the log. `poll` ends a stall.
                "message.timeout.ms": 0,
                "queue.buffering.max.messages": 50_000,
                "retry.backoff.ms": 5,
                "retry.backoff.max.ms": 50,
                "log_level": 3,
            }
        )

    def connect(self) -> None:
        """Connect and get the producer's id now, not while the first tick's budget runs."""
        try:
            self._producer.list_topics(self._decisions, timeout=CONTROL_TIMEOUT_S)
        except KafkaException as error:
            raise ServiceUnavailable(f"Kafka does not answer: {error.args[0].str()}") from error
        self._producer.poll(CONNECT_S)

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
        if self._waiting and time.monotonic() - self._progress_at > STALLED_AFTER_S:
            self._failure = f"Kafka has confirmed nothing for {STALLED_AFTER_S:.0f} s"
        self._raise_failure()

    def flush(self, timeout_s: float) -> None:
        """Wait until all is delivered."""
        left = self._producer.flush(timeout_s)
        self._raise_failure()
        if left:
            raise ServiceUnavailable(f"{left} decisions were not delivered within {timeout_s:.0f} s")

    def _produce(self, topic: str, to: int, key: bytes | None, value: bytes, partition: int, offset: int) -> None:
        report = partial(self._report, partition, offset)
        if not self._waiting:
            self._progress_at = time.monotonic()
        self._waiting += 1
        while True:
            try:
                self._producer.produce(topic, value, key, partition=to, on_delivery=report)
            except BufferError:
                # The queue is bounded: wait for room instead of growing.
                self._producer.poll(0.05)
                self.poll()
            except KafkaException as error:
                raise ServiceUnavailable(f"a decision cannot be produced: {error.args[0].str()}") from error
            else:
                return

    def _report(self, partition: int, offset: int, error: KafkaError | None, _: Message) -> None:
        self._waiting -= 1
        self._progress_at = time.monotonic()
        if error is not None:
            self._failure = error.str()
        else:
            self._delivered(partition, offset)

    def _raise_failure(self) -> None:
        if self._failure:
            raise ServiceUnavailable(f"a decision was not delivered: {self._failure}")


def letter_of(topic: str, message: Message, reason: str) -> DeadLetter:
    """The dead letter of a consumed message."""
    place = (topic, partition_of(message), offset_of(message))
    return dead_letter(*place, reason, as_bytes(message.key()), as_bytes(message.value()))


class KafkaRecovery:
    """Rebuilds a partition's state from its log, without deciding anything again.

    Decisions of a partition are published in the order of its ticks, so what is published is the
    decided prefix of the log: it holds the positions, and where to go on, even where the offset
    commit came too late. Whatever is in flight at a kill is therefore neither lost nor repeated.
    """

    def __init__(
        self, bootstrap: str, group: str, ticks: str, decisions: str, bury: Callable[[Message, str], None]
    ) -> None:
        """Read a cluster.

        Args:
            bootstrap: broker addresses.
            group: whose commits count.
            ticks: topic of the ticks.
            decisions: topic of the decisions.
            bury: publishes the dead letter of a message, with its reason; its letter may have been
                in flight when the gateway was killed.
        """
        self._bootstrap, self._group, self._ticks, self._decisions = bootstrap, group, ticks, decisions
        self._bury = bury

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
        committed = max(low, self._committed(partition))
        following = max(committed, self._restore_positions(partition, state) + 1)
        chunk: list[Tick] = []
        for message in self._read(self._ticks, partition, following):
            tick = admit(as_bytes(message.value()), sent_ns(message, time.time_ns()))
            if isinstance(tick, Tick):
                chunk.append(tick)
            elif offset_of(message) >= committed:
                self._bury(message, tick)
            if len(chunk) >= REPLAY_CHUNK:
                state.replay(partition, chunk)
                chunk = []
        state.replay(partition, chunk)
        return following

    def _restore_positions(self, partition: int, state: GatewayState) -> int:
        """Take positions from the published decisions; returns the last decided offset, or -1.

        An offset that does not advance is a repeat, or the late word of a gateway that had lost the
        partition: the first decision of a tick stands. Ids of another topic are not ours.
        """
        book, prefix, decided = state.of(partition).book, f"{self._ticks}-{partition}-", -1
        for message in self._read(self._decisions, partition, None):
            decision = decode_decision(as_bytes(message.value()) or b"")
            offset = decision.decision_id.removeprefix(prefix)
            if decision.decision_id.startswith(prefix) and int(offset) > decided:
                decided = int(offset)
                book.set_quantity(decision.symbol, decision.position_after)
        return decided

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
    return received_ns if kind == TIMESTAMP_NOT_AVAILABLE else min(int(time_ms) * MS, LATEST_NS)


def as_bytes(value: Any) -> bytes | None:
    """Kafka's keys and values are bytes or absent."""
    return value if value is None or isinstance(value, bytes) else str(value).encode()
