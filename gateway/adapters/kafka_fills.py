"""The broker's reports of the partitions that this gateway decides, as they come."""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog

from connectors.kafka.client import KafkaException, Message, TopicPartition
from connectors.kafka.messages import as_bytes, offset_of, partition_of, usable
from connectors.kafka.reading import FOLLOWING_MS, consume_ready, read_to_end, reader
from connectors.kafka.topics import Topics
from gateway.control.topic import ControlListener
from gateway.workers import Worker
from trading.errors import BadRecord, ServiceUnavailable
from trading.events import ExecutionReport, PartitionEvents
from trading.state.applied import read_report

log = structlog.get_logger()
CHUNK = 2000
POLL_S = 0.1


def decode(message: Message, ticks_topic: str) -> ExecutionReport | None:
    """The report; None, and a warning, for what is none."""
    try:
        return read_report(as_bytes(message.value()), ticks_topic, partition_of(message))
    except BadRecord as error:
        log.warning("no execution report", offset=offset_of(message), reason=str(error))
        return None


def reports_between(
    bootstrap: str, topics: Topics, partition: int, start: int, stop: int
) -> list[tuple[int, ExecutionReport]]:
    """Offsets and reports from `start` to before `stop`. Raises ServiceUnavailable."""
    return [
        (offset_of(message), report)
        for messages in read_to_end(bootstrap, topics.fills, partition, start, stop)
        for message in messages
        if (report := decode(message, topics.ticks)) is not None
    ]


class FillsFeed:
    """Reads in a thread; what has come waits for the deciding thread."""

    def __init__(self, bootstrap: str, topics: Topics, bad_record: Callable[[], None] = lambda: None) -> None:
        """Begin to read; `bad_record` is told of each record that is no report."""
        self._bad_record = bad_record
        self._consumer = reader(bootstrap, waits_ms=FOLLOWING_MS)
        self._topic, self._ticks_topic = topics.fills, topics.ticks
        self._next: dict[int, int] = {}
        self._waiting: dict[int, list[ExecutionReport]] = {}
        self._lock, self._changed, self._closing = threading.Lock(), threading.Event(), threading.Event()
        self.worker = Worker("fills", self._follow)
        self.worker.start()

    def begin(self, partition: int, offset: int) -> None:
        """The partition is decided here, and has taken everything before `offset`."""
        with self._lock:
            self._next[partition], self._waiting[partition] = offset, []
        self._changed.set()

    def forget(self, partition: int) -> None:
        """Another gateway decides it."""
        with self._lock:
            self._next.pop(partition, None)
            self._waiting.pop(partition, None)
        self._changed.set()

    def take(self, partition: int) -> tuple[list[ExecutionReport], int]:
        """What has come, and the offset after it; never waits for more."""
        with self._lock:
            found = self._waiting.get(partition)
            if not found:
                return [], 0
            self._waiting[partition] = []
            return found, self._next[partition]

    def untaken(self, partition: int) -> list[ExecutionReport]:
        """What has come and waits to be taken, a copy."""
        with self._lock:
            return list(self._waiting.get(partition, ()))

    def close(self) -> None:
        """Stop reading."""
        self._closing.set()
        self.worker.join(2.0)
        self._consumer.close()

    def _follow(self) -> None:
        while not self._closing.is_set():
            try:
                self._step()
            except (KafkaException, ServiceUnavailable) as error:
                log.warning("fills cannot be read", reason=str(error)[:200])
                self._closing.wait(1.0)
                self._changed.set()

    def _step(self) -> None:
        if self._changed.is_set():
            self._changed.clear()
            with self._lock:
                places = [TopicPartition(self._topic, p, offset) for p, offset in self._next.items()]
            self._consumer.assign(places)
        for message in consume_ready(self._consumer, CHUNK, POLL_S):
            if usable(message):
                self._keep(message)

    def _keep(self, message: Message) -> None:
        partition, offset = partition_of(message), offset_of(message)
        report = decode(message, self._ticks_topic)
        with self._lock:
            # What was fetched before another assignment may come twice, or too late.
            if offset < self._next.get(partition, offset + 1):
                return
            self._next[partition] = offset + 1
            if report is not None:
                self._waiting[partition].append(report)
        if report is None:
            self._bad_record()


class KafkaEvents:
    """Implements EventSource: the control topic, and the broker's reports where there is a broker."""

    def __init__(self, listener: ControlListener, fills: FillsFeed | None) -> None:
        self._listener, self._fills = listener, fills

    def untaken(self, partition: int) -> list[ExecutionReport]:
        """Of the broker."""
        return [] if self._fills is None else self._fills.untaken(partition)

    def take(self, partition: int, fills_to: int, control_to: int) -> PartitionEvents | None:
        """What came since; two comparisons where nothing has."""
        end = self._listener.end
        reports, reports_to = ([], 0) if self._fills is None else self._fills.take(partition)
        if end <= control_to and not reports:
            return None
        commands = self._listener.between(control_to, end) if end > control_to else []
        return PartitionEvents(commands, max(end, control_to), reports, max(reports_to, fills_to))
