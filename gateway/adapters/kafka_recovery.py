"""Rebuilds a partition's state from its log, without deciding anything again.

Decisions of a partition are published in the order of its ticks, so what is published is the
decided prefix of the log: it holds the orders, where to go on, even where an offset commit came too
late, and before which tick limits and fills were taken. Whatever is in flight at a kill is therefore
neither lost nor repeated. A snapshot only shortens the reading: one that does not fit is left aside.
"""

from __future__ import annotations

import re
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from typing import Protocol

import msgspec
import numpy as np
import structlog
from confluent_kafka import KafkaException, TopicPartition
from msgspec import Struct

from connectors.kafka.errors import CONTROL_TIMEOUT_S
from connectors.kafka.messages import as_bytes, offset_of, sent_ns, traceparent
from connectors.kafka.reading import RETRY_S, bounds, read_to_end, reader
from connectors.kafka.topics import Topics
from gateway.adapters.kafka_fills import reports_between
from gateway.control.topic import ControlListener
from gateway.ports import Restored
from trading.dead_letters import DeadLetter, dead_letter
from trading.errors import ConfigurationError, ServiceUnavailable
from trading.events import ExecutionReport, PartitionEvents
from trading.intake import Admission
from trading.market import Tick
from trading.risk.limits import LimitSet
from trading.state.codec import UnusableSnapshot, decode_snapshot, newest_whole
from trading.state.partition import PartitionState, Snapshot
from trading.trace import TraceIds

log = structlog.get_logger()
#: Longer than a transaction of a gateway that was killed can stay open.
PENDING_TRANSACTION_S = 30.0
#: What an encoded decision begins with.
ID = b'{"decision_id":"'
#: A decision to do nothing says so at its beginning.
HOLD, HEAD = b'"action":"hold"', 400
#: What it ends with.
TAKEN, TAIL = b',"fills_to":', re.compile(rb',"fills_to":(-?\d+),"control_to":(\d+)}')
#: A snapshot is looked for among so many of the newest chunks first.
NEWEST_CHUNKS = (64, 1024)


class FastSnapshots(Protocol):
    """Where the newest snapshots lie, if they do."""

    def get(self, partition: int) -> bytes | None:
        """The encoded snapshot; None where there is none, or nobody answers."""


class Order(Struct):
    """The fields of a published order that a rebuild needs."""

    decision_id: str
    symbol: str
    event_time_ns: int
    quantity: float
    reference_price: float


class Id(Struct):
    """The least that a decision has."""

    decision_id: str


class Taken(Struct, frozen=True):
    """Before the tick at `offset` so much was taken of fills (negative: no broker) and of the control topic."""

    offset: int
    fills_to: int
    control_to: int

    @property
    def assumed(self) -> bool:
        """Whether orders counted as filled."""
        return self.fills_to < 0


class Trail(Struct):
    """What the decisions say of a partition.

    Attributes:
        decided: last decided offset; -1 for none.
        end: of the decisions.
        orders: by offset of their ticks.
        taken: where fills or commands were taken, or the broker came or went, in order.
    """

    decided: int
    end: int
    orders: dict[int, Order]
    taken: list[Taken]


def taken_in(tail: bytes, offset: int) -> Taken:
    """From the end of a decision. Raises msgspec.DecodeError for what is no decision."""
    found = TAIL.fullmatch(tail)
    if found is None:
        raise msgspec.DecodeError("it does not end with what was taken of fills and commands")
    return Taken(offset, int(found[1]), int(found[2]))


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
        limits: LimitSet,
        listener: ControlListener,
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
            limits: before anybody set any.
            listener: knows the commands.
            measured: told how many ticks were replayed, how long that took, and how long the whole.
        """
        self._bootstrap, self._group, self._topics = bootstrap, group, topics
        self._log_name, self._fast, self._admission, self._measured = log_name, fast, admission, measured
        self._limits, self._listener = limits, listener
        self._trace_ids = TraceIds(topics.ticks)
        self._decoder, self._order_decoder = msgspec.json.Decoder(Id), msgspec.json.Decoder(Order)

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
            state, since, decisions_from, kind = PartitionState(self._limits), 0, 0, "none"
        else:
            state, since, decisions_from = PartitionState.of(snapshot), snapshot.offset, snapshot.decisions_from
        trail = self._read_decisions(partition, since, decisions_from)
        following = max(low, committed, trail.decided + 1)
        replay_began = time.monotonic()
        taken, reports = deque(trail.taken), self._reports(partition, state, trail)
        self._take_forgotten(state, trail, taken, reports, low)
        ticks, letters = self._replay(
            partition, state, trail, taken, reports, max(since, low), following, committed
        )
        # The same file may mean other limits for the account and strategy that this gateway trades for.
        mine = self._limits.like(state.book.limits.file)
        if mine.version != state.book.limits.version:
            state.book.set_limits(mine)
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
        return Restored(state, following, trail.end, letters)

    def _take_forgotten(
        self,
        state: PartitionState,
        trail: Trail,
        taken: deque[Taken],
        reports: deque[tuple[int, ExecutionReport]],
        low: int,
    ) -> None:
        """Orders of ticks that the broker has deleted: their price is the only mark that is left.

        What equity was between them is not known any more, so the drawdown is latched until a human has looked.
        """
        forgotten = {offset: order for offset, order in trail.orders.items() if offset < low}
        assumed = True
        for offset, order in forgotten.items():
            while taken and taken[0].offset <= offset:
                assumed = taken[0].assumed
                self._take(state, taken.popleft(), reports)
            times = np.array([[order.event_time_ns] * 3])
            made = np.array([[order.quantity, order.reference_price]])
            mids, numbers = made[:, 1].copy(), np.array([offset])
            state.book.replay([order.symbol], times, mids, numbers, made, assumed=assumed)
        if forgotten:
            log.warning("ticks of earlier orders are deleted: the drawdown is latched", orders=len(forgotten))
            state.book.tables.account[0].drawdown_latched = True

    def _replay(
        self,
        partition: int,
        state: PartitionState,
        trail: Trail,
        taken: deque[Taken],
        reports: deque[tuple[int, ExecutionReport]],
        start: int,
        stop: int,
        committed: int,
    ) -> tuple[int, list[DeadLetter]]:
        """Feed the ticks from `start` to before `stop`; returns their number, and letters not yet safe."""
        count, letters = 0, []
        orders = {offset: (order.quantity, order.reference_price) for offset, order in trail.orders.items()}
        assumed = next((one.assumed for one in reversed(trail.taken) if one not in taken), True)
        for messages in read_to_end(self._bootstrap, self._topics.ticks, partition, start, stop):
            now_ns = time.time_ns()
            payloads = [as_bytes(m.value()) for m in messages]
            times, offsets = [sent_ns(m, now_ns) for m in messages], [offset_of(m) for m in messages]
            admitted = self._admission.admit_all(payloads, times, state.features.symbols)
            kept = [i for i, found in enumerate(admitted) if isinstance(found, Tick)]
            ticks = [found for found in admitted if isinstance(found, Tick)]
            sent, places = [times[i] for i in kept], [offsets[i] for i in kept]
            begin = 0
            while begin < len(ticks):
                while taken and taken[0].offset <= places[begin]:
                    assumed = taken[0].assumed
                    self._take(state, taken.popleft(), reports)
                end = bisect_left(places, taken[0].offset, begin) if taken else len(ticks)
                part = slice(begin, end)
                state.replay(ticks[part], sent[part], places[part], orders, assumed=assumed)
                begin = end
            count += len(ticks)
            for message, found in zip(messages, admitted, strict=True):
                offset = offset_of(message)
                if isinstance(found, str) and offset >= committed:
                    trace_id = self._trace_ids.of(partition, offset, traceparent(message))
                    place = (self._topics.ticks, partition, offset)
                    key, payload = as_bytes(message.key()), as_bytes(message.value())
                    letters.append(dead_letter(*place, found, key, payload, trace_id))
        while taken:
            self._take(state, taken.popleft(), reports)
        return count, letters

    def _reports(self, partition: int, state: PartitionState, trail: Trail) -> deque[tuple[int, ExecutionReport]]:
        """The broker's reports that the decisions say were taken."""
        stop = max((one.fills_to for one in trail.taken), default=0)
        if stop > state.fills_to and bounds(self._bootstrap, self._topics.fills, partition)[1] < stop:
            raise ServiceUnavailable(f"{self._topics.fills}[{partition}] lacks reports that decisions have taken")
        return deque(reports_between(self._bootstrap, self._topics, partition, state.fills_to, stop))

    def _take(self, state: PartitionState, taken: Taken, reports: deque[tuple[int, ExecutionReport]]) -> None:
        mine = []
        while reports and reports[0][0] < taken.fills_to:
            mine.append(reports.popleft()[1])
        self._wait_for_commands(taken.control_to)
        commands = self._listener.between(state.control_to, taken.control_to)
        state.take(PartitionEvents(commands, taken.control_to, mine, taken.fills_to))

    def _wait_for_commands(self, control_to: int) -> None:
        """What a decision says was taken must be known here before it can be taken again."""
        deadline = time.monotonic() + CONTROL_TIMEOUT_S
        while self._listener.end < control_to:
            if time.monotonic() > deadline:
                raise ServiceUnavailable(
                    f"{self._topics.control} was read to {self._listener.end}; decisions know it to {control_to}"
                )
            time.sleep(RETRY_S)

    def _read_decisions(self, partition: int, since: int, start: int) -> Trail:
        """What the decisions of ticks at or after `since` say, reading from offset `start`.

        An offset that does not advance is a repeat, or the late word of a gateway that had lost the
        partition: the first decision of a tick stands. Ids of another topic are not ours.
        """
        trail = Trail(since - 1, start, {}, [])
        prefix = f'{{"decision_id":"{self._topics.ticks}-{partition}-'.encode()
        tail = b""
        for messages in read_to_end(self._bootstrap, self._topics.decisions, partition, start):
            for message in messages:
                payload = as_bytes(message.value()) or b""
                offset = self._offset_in(payload, prefix)
                if offset <= trail.decided:
                    continue
                trail.decided = offset
                if HOLD not in payload[:HEAD]:
                    trail.orders[offset] = self._order_decoder.decode(payload)
                if (found := payload[payload.rfind(TAKEN) :]) != tail:
                    tail = found
                    trail.taken.append(taken_in(found, offset))
            trail.end = offset_of(messages[-1]) + 1
        if trail.decided < since:
            trail.decided = -1
        return trail

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
