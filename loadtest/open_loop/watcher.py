"""Reads published decisions as any consumer would, and notes when each became visible."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing

from hdrh.histogram import HdrHistogram
from msgspec import Struct

from connectors.kafka.client import Consumer, KafkaException, TopicPartition
from connectors.kafka.errors import silent, translated
from connectors.kafka.reading import consume_ready
from connectors.kafka.watermarks import Watermarks
from trading.decision.schema import Decision
from trading.decision.wire import decode_decision, place_of
from trading.errors import ServiceUnavailable

MAX_LATENCY_US = 600_000_000


class Completeness(Struct, frozen=True):
    """Of the ticks that were sent: how many decisions there are, lack, or came again."""

    ticks: int
    decisions: int
    missing: int
    repeated: int


class Latency(Struct, frozen=True):
    """Milliseconds from intended send to visible."""

    p50: float
    p99: float
    p99_9: float
    max: float


class DecisionWatcher:
    """A read-committed consumer in a thread, from the end of the topic as it was at the start."""

    def __init__(self, bootstrap: str, topic: str, *, from_start: bool = False, log_level: int = 3) -> None:
        # Bytes and numbers only, decoded after the run: the garbage collector would walk hundreds of
        # thousands of decoded decisions, and its pauses would be measured as latency.
        self.payloads: list[bytes] = []
        self.visible_ns: list[int] = []
        self._stopping = threading.Event()
        self._failure: KafkaException | None = None
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": "ultrathink-watcher",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "fetch.wait.max.ms": 100,
                "log_level": log_level,
            }
        )
        try:
            partitions = self._consumer.list_topics(topic, timeout=5.0).topics[topic].partitions
        except KafkaException as error:
            raise translated(error, silent(bootstrap)) from error
        # A topic that was just made has no leader for a moment.
        with closing(Watermarks(bootstrap)) as watermarks:
            starts = [watermarks.bounds(topic, p) for p in partitions]
        at = [
            TopicPartition(topic, p, low if from_start else high)
            for p, (low, high) in zip(partitions, starts, strict=True)
        ]
        self._consumer.assign(at)
        self._thread = threading.Thread(target=self._watch, name="watch-decisions", daemon=True)
        self._thread.start()

    def wait_for(
        self,
        sent: Mapping[tuple[int, int], int],
        quiet_s: float,
        show: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Wait until every sent tick has a decision, or nothing new came for `quiet_s`."""
        left, read = set(sent), 0
        since = time.monotonic()
        while left and self._failure is None and time.monotonic() - since < quiet_s:
            fresh = self.payloads[read:]
            if fresh:
                read, since = read + len(fresh), time.monotonic()
                left.difference_update(where for p in fresh if (where := place_of(p)) is not None)
                show(read)
            else:
                time.sleep(0.02)

    def decisions(self) -> list[Decision]:
        """Everything seen, in the order in which it was read. Raises BadRecord for what is no decision."""
        return [decode_decision(p) for p in self.payloads]

    def close(self) -> None:
        """Stop reading."""
        self._stopping.set()
        self._thread.join()
        self._consumer.close()
        if self._failure is not None:
            raise ServiceUnavailable(f"decisions cannot be read: {self._failure.args[0].str()}")

    def _watch(self) -> None:
        try:
            while not self._stopping.is_set():
                messages = consume_ready(self._consumer, 500, 0.05)
                now = time.time_ns()
                for message in messages:
                    if message.error() is None:
                        self.payloads.append(message.value() or b"")
                        self.visible_ns.append(now)
        except KafkaException as error:
            self._failure = error


def completeness(sent: Mapping[tuple[int, int], int], payloads: Iterable[bytes]) -> Completeness:
    """Count decisions of the sent ticks by their ids."""
    known = [where for p in payloads if (where := place_of(p)) is not None and where in sent]
    distinct = len(set(known))
    return Completeness(len(sent), len(known), len(sent) - distinct, len(known) - distinct)


def latency(
    sent: Mapping[tuple[int, int], int], payloads: Iterable[bytes], visible_ns: Iterable[int]
) -> tuple[Latency, HdrHistogram]:
    """Percentiles over the first sight of each decision, and the histogram (microseconds)."""
    histogram = HdrHistogram(1, MAX_LATENCY_US, 3)
    counted: set[tuple[int, int]] = set()
    for payload, visible in zip(payloads, visible_ns, strict=True):
        key = place_of(payload)
        if key is not None and key in sent and key not in counted:
            counted.add(key)
            histogram.record_value(max(1, (visible - sent[key]) // 1000))
    at = [histogram.get_value_at_percentile(p) / 1000.0 for p in (50.0, 99.0, 99.9)]
    return Latency(at[0], at[1], at[2], histogram.get_max_value() / 1000.0), histogram
