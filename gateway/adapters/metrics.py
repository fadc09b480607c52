"""Prometheus metrics of the gateway."""

from __future__ import annotations

import math
import threading
from collections import Counter as Tally
from collections.abc import Iterable, Sequence

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import HistogramMetricFamily

from gateway.domain.schemas import Decision, FloatArray

#: 0.1 ms to 1 s, ten steps a decade where decisions happen.
SECONDS = (
    0.0001, 0.0002, 0.0003, 0.0005, 0.00075, 0.001, 0.0015, 0.002, 0.003, 0.004, 0.005, 0.0075, 0.01,
    0.015, 0.02, 0.025, 0.03, 0.04, 0.05, 0.075, 0.1, 0.25, 0.5, 1.0,
)  # fmt: skip
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
BREAKER_STATES = ("closed", "half_open", "open")


class BatchHistogram:
    """A histogram that takes a whole batch at once: observing tick by tick costs more than deciding."""

    def __init__(self, name: str, documentation: str, registry: CollectorRegistry) -> None:
        self._name, self._documentation = name, documentation
        self._bounds = np.array(SECONDS)
        self._counts = np.zeros(len(SECONDS) + 1, np.int64)
        self._sum = 0.0
        self._lock = threading.Lock()
        registry.register(self)

    def observe(self, seconds: Sequence[float] | FloatArray) -> None:
        """Add n observations."""
        values = np.asarray(seconds, np.float64)
        # A bucket holds what is at most its bound.
        found = np.bincount(np.searchsorted(self._bounds, values), minlength=len(self._counts))
        with self._lock:
            self._counts += found
            self._sum += float(values.sum())

    def collect(self) -> Iterable[HistogramMetricFamily]:
        """What a scrape reads."""
        with self._lock:
            totals, total = np.cumsum(self._counts).tolist(), self._sum
        bounds = [str(b) for b in SECONDS] + ["+Inf"]
        yield HistogramMetricFamily(
            self._name, self._documentation, buckets=list(zip(bounds, totals, strict=True)), sum_value=total
        )

    def quantile(self, q: float) -> float:
        """The bound below which at least a share `q` of all observations lie; NaN without any."""
        with self._lock:
            totals = np.cumsum(self._counts)
        if totals[-1] == 0:
            return math.nan
        k = int(np.searchsorted(totals, q * totals[-1]))
        return SECONDS[k] if k < len(SECONDS) else math.inf


class PrometheusMetrics:
    """Implements Metrics; the admin endpoint serves `registry` at /metrics."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        self._batch = Histogram("gateway_batch_rows", "Ticks a batch", buckets=ROWS, registry=registry)
        self._stage = Histogram(
            "gateway_stage_seconds", "Time of a batch in a stage", ["stage"], buckets=SECONDS, registry=registry
        )
        self.decided = BatchHistogram("gateway_tick_seconds", "From sending a tick to its decision", registry)
        self.handled = BatchHistogram(
            "gateway_batch_seconds", "From receiving a batch to its decisions published", registry
        )
        self._decisions = Counter("gateway_decisions", "Decisions", ["action", "reason"], registry=registry)
        self._denials = Counter("gateway_denials", "Broken risk rules", ["rule"], registry=registry)
        self._letters = Counter("gateway_dead_letters", "Messages that were no tick", registry=registry)
        self._ticks = Counter("gateway_ticks", "Ticks whose decision was published", registry=registry)
        self._asked = Counter("gateway_inference_rows", "Rows sent for inference", registry=registry)
        self._unfinished = Gauge(
            "gateway_unfinished_ticks", "Ticks read and not yet safely decided", registry=registry
        )
        self._partitions = Gauge("gateway_partitions", "Partitions that this gateway decides", registry=registry)
        self._held = Gauge("gateway_held", "1 while nothing more fits in flight", registry=registry)
        self._breaker = Gauge("gateway_breaker_state", "1 for the breaker's state", ["state"], registry=registry)
        self._snapshots = Counter(
            "gateway_snapshot_bytes", "Snapshots written, in bytes", ["where"], registry=registry
        )
        self._replayed = Counter("gateway_replayed_ticks", "Ticks replayed to rebuild state", registry=registry)
        self._restore = Histogram(
            "gateway_restore_seconds", "Time to rebuild a partition",
            buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300), registry=registry,
        )  # fmt: skip
        self.breaker("closed")

    def batch(self, size: int, queue_s: float, features_s: float, asked: int) -> None:
        """A batch was submitted."""
        self._batch.observe(size)
        self._stage.labels("queue").observe(max(0.0, queue_s))
        self._stage.labels("features").observe(features_s)
        self._asked.inc(asked)

    def settled(self, decisions: list[Decision], inference_s: float, decide_s: float) -> None:
        """A batch was decided."""
        self._stage.labels("inference").observe(inference_s)
        self._stage.labels("decide").observe(decide_s)
        if not decisions:
            return
        for (action, reason), count in Tally((d.action, d.reason) for d in decisions).items():
            self._decisions.labels(action.value, reason.value).inc(count)
        stages = [d.stages for d in decisions]
        total_us = np.array([s.queue_us + s.features_us + s.inference_us + s.decide_us for s in stages])
        self.decided.observe(np.maximum(total_us, 0.0) / 1e6)
        broken = Tally(rule for d in decisions if d.verdict is not None for rule in d.verdict.broken)
        for rule, count in broken.items():
            self._denials.labels(rule).inc(count)

    def published(self, ticks: int, publish_s: float, received_to_published_s: list[float]) -> None:
        """Decisions are where their readers see them."""
        self._stage.labels("publish").observe(publish_s)
        self.handled.observe(received_to_published_s)
        self._ticks.inc(ticks)

    def unfinished(self, ticks: int) -> None:
        """Ticks read and not yet published."""
        self._unfinished.set(ticks)

    def partitions(self, count: int) -> None:
        """Partitions owned now, each rebuilt and ready."""
        self._partitions.set(count)

    def dead_letters(self, count: int) -> None:
        """Messages were no ticks."""
        self._letters.inc(count)

    def paused(self, paused: bool) -> None:
        """Whether the source is held."""
        self._held.set(paused)

    def breaker(self, state: str) -> None:
        """The circuit breaker's state."""
        for name in BREAKER_STATES:
            self._breaker.labels(name).set(name == state)

    def snapshot(self, where: str, size: int) -> None:
        """A snapshot was written."""
        self._snapshots.labels(where).inc(size)

    def restored(self, ticks: int, seconds: float) -> None:
        """A partition was rebuilt."""
        self._replayed.inc(ticks)
        self._restore.observe(seconds)
