"""The log of a partition in Kafka, with the snapshots of it in Redis and Kafka."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import Protocol

import structlog
from msgspec import Struct

from connectors.kafka.errors import CONTROL_TIMEOUT_S
from connectors.kafka.logged import logged
from connectors.kafka.messages import as_bytes, offset_of
from connectors.kafka.reading import read_to_end
from connectors.kafka.topics import Topics
from connectors.kafka.watermarks import UNCOMMITTED, Watermarks
from gateway.adapters.kafka_fills import reports_between
from gateway.control.topic import ControlListener
from trading.encoding import Records
from trading.errors import BadRecord, ServiceUnavailable
from trading.events import Command, ExecutionReport
from trading.risk.limits import LimitSet
from trading.state.codec import newest_whole
from trading.state.log import Committed, LoggedMessage

log = structlog.get_logger()
#: Longer than a transaction of a gateway that was killed can stay open.
PENDING_TRANSACTION_S = 30.0
#: The group's coordinator is told of a transaction's end within some milliseconds of the decisions' leaders.
SETTLED_S = 10.0
#: Between two looks whether commands have come that decisions have taken.
LISTEN_S = 0.1
#: A snapshot is looked for among so many of the newest chunks first.
NEWEST_CHUNKS = (64, 1024)


class LetterPlace(Struct):
    """Of a dead letter: where its message lies."""

    topic: str
    partition: int
    offset: int


_letters = Records(LetterPlace)


class FastSnapshots(Protocol):
    """Where the newest snapshots lie, if they do."""

    def get(self, partition: int) -> bytes | None:
        """The encoded snapshot; None where there is none, or nobody answers."""


class LogPlace(Struct, frozen=True):
    """Where the logs of all partitions lie.

    Attributes:
        bootstrap: broker addresses.
        cluster: the id of theirs.
        group: whose commits count.
        topics: ticks, decisions, fills, control and durable snapshots.
        name: what a snapshot must say that it is of.
        was: names that these logs had before, with their ends, a partition.
    """

    bootstrap: str
    cluster: str
    group: str
    topics: Topics
    name: str
    was: Mapping[str, tuple[int, ...]] = MappingProxyType({})


class KafkaPartitionLog:
    """Implements PartitionLog."""

    def __init__(
        self,
        place: LogPlace,
        partition: int,
        fast: FastSnapshots,
        listener: ControlListener,
        watermarks: Watermarks,
    ) -> None:
        self.name, self.ticks_topic, self.partition = place.name, place.topics.ticks, partition
        self.cluster, self.group = place.cluster, place.group
        self.was: Mapping[str, int] = {n: ends[partition] for n, ends in place.was.items() if partition < len(ends)}
        self._bootstrap, self._topics = place.bootstrap, place.topics
        self._fast, self._listener, self._watermarks = fast, listener, watermarks

    def committed(self) -> Committed:
        """Stable: a transaction that is still open is waited for. Raises ServiceUnavailable.

        A group coordinator whose broker was killed was seen to take a transaction for open that was ended, for as
        long as it lived. Where none is open among the decisions, what it has committed before that one is taken:
        the decisions tell what came after.
        """
        self._watermarks.wait_until_settled(self._topics.decisions, self.partition, PENDING_TRANSACTION_S)
        place = self._topics.ticks, self.partition
        try:
            return Committed(*self._watermarks.committed(*place, SETTLED_S))
        except ServiceUnavailable as error:
            log.warning("the group's coordinator does not settle", partition=self.partition, reason=str(error))
            return Committed(*self._watermarks.committed(*place, SETTLED_S, UNCOMMITTED))

    def bounds(self) -> tuple[int, int]:
        """The watermarks of the ticks."""
        return self._watermarks.bounds(self._topics.ticks, self.partition)

    def buried(self, since: int) -> set[int]:
        """Read from the dead letters' partition, which is that of their ticks."""
        topic = self._topics.dead_letters
        low, _ = self._watermarks.bounds(topic, self.partition)
        found: set[int] = set()
        for messages in read_to_end(self._bootstrap, topic, self.partition, low):
            for message in messages:
                with suppress(BadRecord):
                    place = _letters.read(as_bytes(message.value()))
                    if place.topic == self.ticks_topic and place.partition == self.partition:
                        found.add(place.offset)
        return {offset for offset in found if offset >= since}

    def snapshots(self) -> Iterator[tuple[str, bytes]]:
        """Redis's, then Kafka's."""
        if (newest := self._fast.get(self.partition)) is not None:
            yield "redis", newest
        if (durable := self._durable()) is not None:
            yield "kafka", durable

    def ticks(self, start: int, stop: int) -> Iterator[Sequence[LoggedMessage]]:
        """From `start` to before `stop`."""
        for messages in read_to_end(self._bootstrap, self._topics.ticks, self.partition, start, stop):
            now_ns = time.time_ns()
            yield [logged(m, now_ns) for m in messages]

    def decisions(self, start: int) -> Iterator[Sequence[tuple[int, bytes]]]:
        """From `start` to the end, once every transaction there is ended."""
        self._watermarks.wait_until_settled(self._topics.decisions, self.partition, PENDING_TRANSACTION_S)
        for messages in read_to_end(self._bootstrap, self._topics.decisions, self.partition, start):
            yield [(offset_of(m), as_bytes(m.value()) or b"") for m in messages]

    def reports(self, start: int, stop: int) -> list[tuple[int, ExecutionReport]]:
        """Raises ServiceUnavailable where the log ends before `stop`."""
        if self._watermarks.bounds(self._topics.fills, self.partition)[1] < stop:
            raise ServiceUnavailable(
                f"{self._topics.fills}[{self.partition}] lacks reports that decisions have taken"
            )
        return reports_between(self._bootstrap, self._topics, self.partition, start, stop)

    def commands(self, start: int, stop: int) -> list[tuple[Command, LimitSet | None]]:
        """What a decision says was taken must be known here before it can be taken again."""
        deadline = time.monotonic() + CONTROL_TIMEOUT_S
        while self._listener.end < stop:
            if time.monotonic() > deadline:
                raise ServiceUnavailable(
                    f"{self._topics.control} was read to {self._listener.end}; decisions know it to {stop}"
                )
            time.sleep(LISTEN_S)
        return self._listener.between(start, stop)

    def _durable(self) -> bytes | None:
        topic = self._topics.snapshots
        low, high = self._watermarks.bounds(topic, self.partition)
        for newest in (*NEWEST_CHUNKS, high):
            start = max(low, high - newest)
            values = [
                as_bytes(m.value()) or b""
                for messages in read_to_end(self._bootstrap, topic, self.partition, start)
                for m in messages
            ]
            found = newest_whole(values)
            if found is not None or start == low:
                return found
        return None


def open_logs(
    place: LogPlace, fast: FastSnapshots, listener: ControlListener, watermarks: Watermarks
) -> Callable[[int], KafkaPartitionLog]:
    """What opens the log of a partition."""
    return lambda partition: KafkaPartitionLog(place, partition, fast, listener, watermarks)
