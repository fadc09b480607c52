"""What Prometheus is told of the data service."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import Counter, Gauge, Histogram

from connectors.listening import own_registry
from services.data.api.guard import Observer

BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)


class Metrics(Observer):
    """Implements Observer."""

    def __init__(self) -> None:
        self.registry = own_registry()
        self._seconds = Histogram(
            "data_request_seconds", "Requests by route and whether the answer was kept.", ["route", "cache"],
            buckets=BUCKETS, registry=self.registry,
        )  # fmt: skip
        self._requests = Counter(
            "data_requests", "Requests, since it started.", ["route", "status"], registry=self.registry
        )
        self._looks = Counter(
            "data_cache_looks", "Looks for kept answers, by where one was found.", ["found"], registry=self.registry
        )
        self.read = Gauge(
            "data_ticks_read_to", "Offset after the last tick that is read.", ["partition"], registry=self.registry
        )
        self.waiting = Gauge("data_waiting", "1 while the ticks are not followed.", registry=self.registry)
        for found in ("memory", "redis", "none"):
            self._looks.labels(found)

    def answered(self, route: str, status: int, cached: str, seconds: float) -> None:
        """See Observer."""
        self._seconds.labels(route, cached).observe(seconds)
        self._requests.labels(route, str(status)).inc()

    def follows(self, positions: Mapping[int, int], problem: str) -> None:
        """How far the ticks are read."""
        for partition, offset in positions.items():
            self.read.labels(str(partition)).set(offset)
        self.waiting.set(bool(problem))

    def looked(self, found: str) -> None:
        """For a kept answer."""
        self._looks.labels(found).inc()
