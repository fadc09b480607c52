"""Prometheus metrics of the gateway."""

from __future__ import annotations

from collections import Counter as Tally

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from gateway.domain.errors import ConfigurationError
from gateway.domain.schemas import Decision

#: 0.1 ms to 1 s.
SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class PrometheusMetrics:
    """Implements Metrics; served over HTTP at /metrics."""

    def __init__(self, host: str, port: int) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        self._batch = Histogram("gateway_batch_rows", "Ticks a batch", buckets=ROWS, registry=registry)
        self._stage = Histogram(
            "gateway_stage_seconds",
            "Time of a batch in a stage",
            ["stage"],
            buckets=SECONDS,
            registry=registry,
        )
        self._latency = Histogram(
            "gateway_tick_seconds", "From sending a tick to its decision", buckets=SECONDS, registry=registry
        )
        self._decisions = Counter("gateway_decisions", "Decisions", ["action", "reason"], registry=registry)
        self._denials = Counter("gateway_denials", "Broken risk rules", ["rule"], registry=registry)
        self._letters = Counter("gateway_dead_letters", "Messages that were no tick", registry=registry)
        self._lag = Gauge("gateway_unfinished_ticks", "Ticks read and not yet safely decided", registry=registry)
        self._partitions = Gauge("gateway_partitions", "Partitions that this gateway decides", registry=registry)
        try:
            self._server, _ = start_http_server(port, host, self.registry)
        except OSError as error:
            raise ConfigurationError(
                f"metrics port {port} on {host} is taken ({error.strerror}): choose another with "
                "--metrics-port or ULTRATHINK_GATEWAY_METRICS_PORT"
            ) from error

    def batch(self, size: int, queue_s: float, features_s: float) -> None:
        """A batch was submitted."""
        self._batch.observe(size)
        self._stage.labels("queue").observe(max(0.0, queue_s))
        self._stage.labels("features").observe(features_s)

    def settled(self, decisions: list[Decision], inference_s: float, decide_s: float, lag: int) -> None:
        """A batch was decided."""
        self._stage.labels("inference").observe(inference_s)
        self._stage.labels("decide").observe(decide_s)
        self._lag.set(lag)
        for (action, reason), count in Tally((d.action, d.reason) for d in decisions).items():
            self._decisions.labels(action.value, reason.value).inc(count)
        for decision in decisions:
            stages = decision.stages
            self._latency.observe(
                max(0.0, stages.queue_us + stages.features_us + stages.inference_us + stages.decide_us) / 1e6
            )
            if decision.verdict is not None:
                for rule in decision.verdict.broken:
                    self._denials.labels(rule).inc()

    def partitions(self, count: int) -> None:
        """Partitions owned now, each rebuilt and ready."""
        self._partitions.set(count)

    def dead_letter(self) -> None:
        """A message was no tick."""
        self._letters.inc()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
