"""Rebuilds a partition's state from its log, without deciding anything again.

Decisions of a partition are published in the order of its ticks, so what is published is the
decided prefix of the log: it holds the positions, and where to go on, even where an offset commit
came too late. Whatever is in flight at a kill is therefore neither lost nor repeated. A snapshot
only shortens the reading: one that does not fit is left aside.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

import msgspec
import structlog
from confluent_kafka import KafkaException, TopicPartition
from msgspec import Struct

from gateway.adapters.kafka_common import (
    Topics,
    as_bytes,
    bounds,
    offset_of,
    read_to_end,
    reader,
    sent_ns,
    traceparent,
)
from gateway.domain.admission import Admission
from gateway.domain.dead_letters import dead_letter
from gateway.domain.errors import ConfigurationError, ServiceUnavailable
from gateway.domain.schemas import DeadLetter, Tick
from gateway.domain.trace import TraceIds
from gateway.ports import Restored
from gateway.snapshot import UnusableSnapshot, decode_snapshot, newest_whole
from gateway.state import PartitionState, Snapshot

log = structlog.get_logger()
#: Longer than a transaction of a gateway that was killed can stay open.
PENDING_TRANSACTION_S = 30.0
#: What an encoded decision begins with.
ID = b'{"decision_id":"'
#: A snapshot is looked for among so many of the newest chunks first.
NEWEST_CHUNKS = (64, 1024)


class FastSnapshots(Protocol):
    """Where the newest snapshots lie, if they do."""

    def get(self, partition: int) -> bytes | None:
        """The encoded snapshot; None where there is none, or nobody answers."""


class Decided(Struct):
    """The fields of a published decision that a rebuild needs."""

    decision_id: str
    symbol: str
    position_after: float


class KafkaRecovery:
    """Reads a cluster."""

    def __init__(
        self,
        bootstrap: str,
        group: str,
        topics: Topics,
        log_name: str,
        fast: FastSnapshots,
        admission: Admission,
        measured: Callable[[int, float, float], None] = lambda _ticks, _replay_s, _seconds: None,
    ) -> None:
        """Prepare.

        Args:
            bootstrap: broker addresses.
            group: whose commits count.
            topics: ticks, decisions and durable snapshots.
            log_name: what a snapshot must say that it is of.
            fast: snapshots of the last second.
            admission: what is a tick.
            measured: told how many ticks were replayed, how long that took, and how long the whole.
        """
        self._bootstrap, self._group, self._topics = bootstrap, group, topics
        self._log_name, self._fast, self._admission, self._measured = log_name, fast, admission, measured
        self._trace_ids = TraceIds(topics.ticks)
        self._decoder = msgspec.json.Decoder(Decided)

    def restore(self, partition: int) -> Restored:
        """Raises ServiceUnavailable, or ConfigurationError for a log of another version."""
        try:
            return self._restore(partition)
        except msgspec.DecodeError as error:
            raise ConfigurationError(
                f"{self._topics.decisions}[{partition}] holds something that is no decision of this version "
                f"({error}): name another topic with ULTRATHINK_GATEWAY_DECISIONS_TOPIC"
            ) from error
        except KafkaException as error:
            raise ServiceUnavailable(
                f"partition {partition} cannot be rebuilt from its log: {error.args[0].str()}"
            ) from error

    def _restore(self, partition: int) -> Restored:
        began = time.monotonic()
        committed = self._committed(partition)
        low, _ = bounds(self._bootstrap, self._topics.ticks, partition)
        snapshot = self._fitting(partition, self._fast.get(partition), committed)
        kind = "redis"
        if snapshot is None:
            snapshot, kind = self._fitting(partition, self._durable(partition), committed), "kafka"
        if snapshot is None or snapshot.offset < low:
            state, since, decisions_from, kind = PartitionState(), 0, 0, "none"
        else:
            state, since, decisions_from = PartitionState.of(snapshot), snapshot.offset, snapshot.decisions_from
        decided, decisions_end = self._restore_positions(partition, state, since, decisions_from)
        following = max(low, committed, decided + 1)
        replay_began = time.monotonic()
        ticks, letters = self._replay(partition, state, max(since, low), following, committed)
        ended = time.monotonic()
        replay_s, seconds = ended - replay_began, ended - began
        self._measured(ticks, replay_s, seconds)
        log.info(
            "partition rebuilt",
            partition=partition,
            offset=following,
            snapshot=kind,
            replayed=ticks,
            replay_seconds=round(replay_s, 3),
            seconds=round(seconds, 3),
        )
        return Restored(state, following, decisions_end, letters)

    def _replay(
        self, partition: int, state: PartitionState, start: int, stop: int, committed: int
    ) -> tuple[int, list[DeadLetter]]:
        """Feed the ticks from `start` to before `stop`; returns their number, and letters not yet safe."""
        count, letters = 0, []
        for messages in read_to_end(self._bootstrap, self._topics.ticks, partition, start, stop):
            now_ns = time.time_ns()
            payloads = [as_bytes(m.value()) for m in messages]
            times = [sent_ns(m, now_ns) for m in messages]
            admitted = self._admission.admit_all(payloads, times, state.features.symbols)
            ticks = [found for found in admitted if isinstance(found, Tick)]
            state.replay(ticks)
            count += len(ticks)
            for message, found in zip(messages, admitted, strict=True):
                offset = offset_of(message)
                if isinstance(found, str) and offset >= committed:
                    trace_id = self._trace_ids.of(partition, offset, traceparent(message))
                    place = (self._topics.ticks, partition, offset)
                    key, payload = as_bytes(message.key()), as_bytes(message.value())
                    letters.append(dead_letter(*place, found, key, payload, trace_id))
        return count, letters

    def _restore_positions(self, partition: int, state: PartitionState, since: int, start: int) -> tuple[int, int]:
        """Take positions from the decisions of ticks at or after `since`, reading from offset `start`.

        Returns the last decided offset, or -1, and the end of the decisions. An offset that does not
        advance is a repeat, or the late word of a gateway that had lost the partition: the first
        decision of a tick stands. Ids of another topic are not ours.
        """
        book, decided, end = state.book, since - 1, start
        prefix = f'{{"decision_id":"{self._topics.ticks}-{partition}-'.encode()
        for messages in read_to_end(self._bootstrap, self._topics.decisions, partition, start):
            # A position is the last one's: only those are decoded whole.
            last: dict[bytes, bytes] = {}
            for message in messages:
                payload = as_bytes(message.value()) or b""
                offset = self._offset_in(payload, prefix)
                if offset > decided:
                    decided = offset
                    last[as_bytes(message.key()) or payload] = payload
            for payload in last.values():
                decision = self._decoder.decode(payload)
                book.set_quantity(decision.symbol, decision.position_after)
            end = offset_of(messages[-1]) + 1
        return (decided if decided >= since else -1), end

    def _offset_in(self, payload: bytes, prefix: bytes) -> int:
        """The tick's offset that a decision's id names; -1 for the id of another topic or partition.

        Raises msgspec.DecodeError for what is no decision.
        """
        if payload.startswith(prefix):
            digits = payload[len(prefix) : payload.find(b'"', len(prefix))]
            if digits.isdigit():
                return int(digits)
        found = self._decoder.decode(payload).decision_id
        return int(found[len(prefix) - len(ID) :]) if found.encode().startswith(prefix[len(ID) :]) else -1

    def _committed(self, partition: int) -> int:
        """Stable: a transaction that is still open is waited for."""
        consumer = reader(self._bootstrap, self._group)
        try:
            (found,) = consumer.committed([TopicPartition(self._topics.ticks, partition)], PENDING_TRANSACTION_S)
        finally:
            consumer.close()
        return int(found.offset) if found.offset >= 0 else 0

    def _fitting(self, partition: int, payload: bytes | None, committed: int) -> Snapshot | None:
        if payload is None:
            return None
        try:
            snapshot = decode_snapshot(payload, self._log_name, partition)
        except UnusableSnapshot as error:
            log.warning("snapshot left aside", partition=partition, reason=str(error))
            return None
        if snapshot.offset > committed:
            log.warning("snapshot left aside", partition=partition, reason="it is ahead of what is committed")
            return None
        return snapshot

    def _durable(self, partition: int) -> bytes | None:
        topic = self._topics.snapshots
        low, high = bounds(self._bootstrap, topic, partition)
        for newest in (*NEWEST_CHUNKS, high):
            start = max(low, high - newest)
            values = [
                as_bytes(m.value()) or b""
                for messages in read_to_end(self._bootstrap, topic, partition, start)
                for m in messages
            ]
            found = newest_whole(values)
            if found is not None or start == low:
                return found
        return None
