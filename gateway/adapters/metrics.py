"""Prometheus metrics of the gateway."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, Exemplar, GaugeMetricFamily, HistogramMetricFamily

from connectors.listening import own_registry
from gateway.adapters.headroom import LeastHeadroom
from gateway.ports import DecisionCounts
from trading.arrays import FloatArray
from trading.compiled import types_by_entry
from trading.portfolio.book import BookSummary

#: 0.1 ms to 1 s, ten steps a decade where decisions happen.
SECONDS = (
    0.0001, 0.0002, 0.0003, 0.0005, 0.00075, 0.001, 0.0015, 0.002, 0.003, 0.004, 0.005, 0.0075, 0.01,
    0.015, 0.02, 0.025, 0.03, 0.04, 0.05, 0.075, 0.1, 0.25, 0.5, 1.0,
)  # fmt: skip
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
STAGES = ("queue", "features", "inference", "decide", "publish")
BREAKER_STATES = ("closed", "half_open", "open")


class LightHistogram:
    """A histogram with one writer, which takes single values or a whole batch at once.

    prometheus-client's own costs as much a value as deciding a tick.
    """

    def __init__(
        self,
        name: str,
        documentation: str,
        registry: CollectorRegistry,
        bounds: Sequence[float] = SECONDS,
        stages: Sequence[str] = (),
    ) -> None:
        self._name, self._documentation, self._stages = name, documentation, stages or ("",)
        self._bounds, self._edges = list(bounds), np.array(bounds)
        self._counts = {stage: [0] * (len(bounds) + 1) for stage in self._stages}
        self._sums = dict.fromkeys(self._stages, 0.0)
        #: Stage -> bucket -> the last value in it whose trace is known.
        self._exemplars: dict[str, dict[int, Exemplar]] = {stage: {} for stage in self._stages}
        registry.register(self)

    def observe(self, value: float, count: int = 1, stage: str = "") -> None:
        """Add the same value so many times."""
        # A bucket holds what is at most its bound.
        self._counts[stage][bisect_left(self._bounds, value)] += count
        self._sums[stage] += value * count

    def observe_all(self, values: FloatArray) -> None:
        """Add n values."""
        counts = self._counts[""]
        found = np.bincount(np.searchsorted(self._edges, values), minlength=len(counts))
        for k in np.flatnonzero(found).tolist():
            counts[k] += int(found[k])
        self._sums[""] += float(values.sum())

    def exemplify(self, value: float, trace_id: str, at_s: float, stage: str = "") -> None:
        """Name the trace of a value that was observed, at a wall time in seconds: its bucket shows the last one."""
        self._exemplars[stage][bisect_left(self._bounds, value)] = Exemplar({"trace_id": trace_id}, value, at_s)

    def collect(self) -> Iterable[HistogramMetricFamily]:
        """What a scrape reads."""
        labels = ["stage"] if self._stages != ("",) else []
        family = HistogramMetricFamily(self._name, self._documentation, labels=labels)
        # As OpenMetrics wants them: 1.0, not 1.
        bounds = [str(float(bound)) for bound in self._bounds] + ["+Inf"]
        for stage in self._stages:
            totals, exemplars = accumulate(self._counts[stage]), self._exemplars[stage]
            buckets: list[tuple[str, float] | tuple[str, float, Exemplar]] = [
                (bound, total, exemplars[k]) if k in exemplars else (bound, total)
                for k, (bound, total) in enumerate(zip(bounds, totals, strict=True))
            ]
            family.add_metric([stage] if labels else [], buckets, self._sums[stage])
        yield family


class BookCollector:
    """Each partition's equity, gross exposure, drawdown, working orders and latches, when they are asked for."""

    def __init__(self, books: Callable[[], dict[int, BookSummary]]) -> None:
        self._books = books

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """What a scrape reads; what is not known is NaN."""
        columns = {
            name: GaugeMetricFamily(f"gateway_book_{name}", text, labels=["partition"])
            for name, text in (
                ("equity", "Capital and profit of a partition's book, unrealised included, in money"),
                ("gross", "Gross exposure when all working orders fill, in money"),
                ("drawdown", "Fall of equity below its high-water mark, as a share of that"),
                ("working_orders", "Orders that the broker has not finished"),
                ("latched", "Rules that a human must reset"),
            )
        }
        for partition, book in self._books().items():
            values = (book.equity, book.gross, book.drawdown, book.working_orders, len(book.latched))
            for family, value in zip(columns.values(), values, strict=True):
                family.add_metric([str(partition)], math.nan if value is None else value)
        yield from columns.values()


class StateCollector:
    """The trading state, how many reasons there are not to be ready, and which Tritons may be asked."""

    def __init__(
        self,
        state: Callable[[], str],
        states: Sequence[str],
        problems: Callable[[], int],
        servers: Callable[[], Mapping[str, str]],
    ) -> None:
        self._state, self._states, self._problems, self._servers = state, states, problems, servers

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """What a scrape reads."""
        family = GaugeMetricFamily("gateway_trading_state", "1 for the trading state", labels=["state"])
        now = self._state()
        for name in self._states:
            family.add_metric([name], float(name == now))
        yield family
        yield GaugeMetricFamily("gateway_problems", "Why it is not ready, how many reasons", value=self._problems())
        asked = GaugeMetricFamily("gateway_triton_up", "1 for a Triton that may be asked", labels=["address"])
        for address, why_not in self._servers().items():
            asked.add_metric([address], float(not why_not))
        yield asked


class CompiledCollector:
    """What of the live path was compiled, or loaded, after it had begun: each costs the ticks of that moment."""

    def __init__(self) -> None:
        self._before = sum(types_by_entry().values())

    def collect(self) -> Iterable[CounterMetricFamily]:
        """What a scrape reads."""
        family = CounterMetricFamily(
            "gateway_late_compilations", "Functions compiled, or loaded, for types that the warm-up had not seen"
        )
        family.add_metric([], sum(types_by_entry().values()) - self._before)
        yield family


class PrometheusMetrics:
    """Implements Metrics; the admin endpoint serves `registry` at /metrics."""

    def __init__(self) -> None:
        self.registry = own_registry()
        registry = self.registry
        self._batch = LightHistogram("gateway_batch_rows", "Ticks a batch", registry, ROWS)
        self._stage = LightHistogram("gateway_stage_seconds", "Time of a batch in a stage", registry, stages=STAGES)
        self.sent_to_decided = LightHistogram(
            "gateway_tick_seconds", "From sending a tick to its decision", registry
        )
        self.handled = LightHistogram(
            "gateway_handled_seconds", "From receiving a tick to its decision published", registry
        )
        self._decisions = Counter(
            "gateway_decisions", "Decisions", ["variant", "action", "reason"], registry=registry
        )
        self._denials = Counter("gateway_denials", "Broken risk rules", ["rule"], registry=registry)
        self._headroom = LeastHeadroom(registry)
        self._letters = Counter("gateway_dead_letters", "Messages that were no tick", registry=registry)
        self._ticks = Counter("gateway_ticks", "Ticks whose decision was published", registry=registry)
        self._asked = Counter("gateway_inference_rows", "Rows sent for inference", registry=registry)
        self._unfinished = Gauge(
            "gateway_unfinished_ticks", "Ticks read and not yet safely decided", registry=registry
        )
        self._partitions = Gauge("gateway_partitions", "Partitions that this gateway decides", registry=registry)
        self._held = Gauge("gateway_held", "1 while nothing more fits in flight", registry=registry)
        self._breaker = Gauge("gateway_breaker_state", "1 for the breaker's state", ["state"], registry=registry)
        self._overtaken = Counter(
            "gateway_overtaken",
            "Shares whose orders did not leave, and were decided again",
            ["why"],
            registry=registry,
        )
        self._cancelled = Counter(
            "gateway_cancelled_orders", "Orders that the broker was asked to end, by a stop", registry=registry
        )
        self._lost = Counter("gateway_lost_ticks", "Ticks deleted before they were decided", registry=registry)
        self._experiments = Counter(
            "gateway_experiment_rows",
            "Rows of experiments, by the arm that they were given to, and why the champion decided all the same",
            ["experiment", "arm", "fallback"],
            registry=registry,
        )
        self._count_rare(registry)

    def _count_rare(self, registry: CollectorRegistry) -> None:
        self._bad = Counter(
            "gateway_bad_records", "Records that are not what their topic holds", ["topic"], registry=registry
        )
        self._snapshots = Counter(
            "gateway_snapshot_bytes", "Snapshots written, in bytes", ["where"], registry=registry
        )
        self._replayed = Counter("gateway_replayed_ticks", "Ticks replayed to rebuild state", registry=registry)
        self._replay = Counter("gateway_replay_seconds", "Time of replaying ticks", registry=registry)
        self._restore = Histogram(
            "gateway_restore_seconds", "Time to rebuild a partition",
            buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300), registry=registry,
        )  # fmt: skip
        # What is counted for the first time grows from 0, or nobody would see it grow.
        for role in ("decisions", "snapshots", "fills", "control"):
            self._bad.labels(role)
        self.breaker("closed")

    def watch_books(self, books: Callable[[], dict[int, BookSummary]]) -> None:
        """From now on a scrape shows each partition's book."""
        self.registry.register(BookCollector(books))

    def watch_compiled(self) -> None:
        """From now on a scrape shows what is compiled: nothing should be."""
        self.registry.register(CompiledCollector())

    def batch(self, size: int, queue_s: float, features_s: float, asked: int) -> None:
        """A batch was read."""
        self._batch.observe(size)
        self._stage.observe(max(0.0, queue_s), stage="queue")
        self._stage.observe(features_s, stage="features")
        self._asked.inc(asked)

    def decided(self, counts: DecisionCounts, inference_s: float, decide_s: float) -> None:
        """A batch was decided."""
        self._stage.observe(inference_s, stage="inference")
        self._stage.observe(decide_s, stage="decide")
        for labels, count in counts.kinds.items():
            self._decisions.labels(*labels).inc(count)
        self.sent_to_decided.observe_all(counts.total_s)
        for rule, count in counts.broken.items():
            self._denials.labels(rule).inc(count)
        self._headroom.note(counts.headroom)
        for told, count in counts.experiments.items():
            self._experiments.labels(*told).inc(count)

    def traced(self, recorded: Mapping[str, float], at_ns: int) -> None:
        """A latency whose trace is recorded leads to it."""
        for trace_id, seconds in recorded.items():
            self.sent_to_decided.exemplify(seconds, trace_id, at_ns / 1e9)

    def published(self, ticks: list[int], publish_s: float, received_to_published_s: list[float]) -> None:
        """Decisions are where their readers see them."""
        self._stage.observe(publish_s, stage="publish")
        for count, seconds in zip(ticks, received_to_published_s, strict=True):
            self.handled.observe(seconds, count)
        self._ticks.inc(sum(ticks))

    def unfinished(self, ticks: int) -> None:
        """Ticks read and not yet published."""
        self._unfinished.set(ticks)

    def partitions(self, count: int) -> None:
        """Partitions owned now, each rebuilt and ready."""
        self._partitions.set(count)

    def dead_letters(self, count: int) -> None:
        """Messages were no ticks."""
        self._letters.inc(count)

    def lost(self, count: int) -> None:
        """Ticks were deleted before they were decided."""
        self._lost.inc(count)

    def bad_record(self, topic: str) -> None:
        """A record of a topic (by its role) was not what it must be, and was left aside."""
        self._bad.labels(topic).inc()

    def overtaken(self, *, late: bool) -> None:
        """A partition's orders did not leave, and are decided again."""
        self._overtaken.labels("expired" if late else "stopped").inc()

    def cancelled(self, orders: int) -> None:
        """The broker is asked to end orders."""
        self._cancelled.inc(orders)

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

    def restored(self, ticks: int, replay_s: float, seconds: float) -> None:
        """A partition was rebuilt; its ticks were replayed within `replay_s` of the whole."""
        self._replayed.inc(ticks)
        self._replay.inc(replay_s)
        self._restore.observe(seconds)
