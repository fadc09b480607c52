"""What Prometheus is told of the paper broker."""

from __future__ import annotations

from typing import Protocol

from prometheus_client import Counter, Gauge, Histogram

from connectors.listening import own_registry
from trading.events import ReportKind

#: From milliseconds to where an order has long expired.
BUCKETS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)


class Observer(Protocol):
    """Who is told of what the broker does."""

    def ordered(self, kind: str) -> None:
        """A record came: `new`, `cancel`, or `bad` where it was neither."""

    def reported(self, kind: ReportKind, seconds: float) -> None:
        """A report was sent, so long after its order."""

    def holds(self, partitions: int, working: int) -> None:
        """Partitions whose orders are answered here, and orders of which something is left to say."""


class Metrics(Observer):
    """Implements Observer."""

    def __init__(self) -> None:
        """Nothing listens yet."""
        self.registry = own_registry()
        self._orders = Counter(
            "paper_broker_orders",
            "Records of the orders' topic.",
            ["kind"],
            registry=self.registry,
        )
        self._reports = Counter(
            "paper_broker_reports", "Execution reports that were sent.", ["kind"], registry=self.registry
        )
        self._seconds = Histogram(
            "paper_broker_report_seconds", "From an order's sending to its report.", buckets=BUCKETS,
            registry=self.registry,
        )  # fmt: skip
        self._partitions = Gauge(
            "paper_broker_partitions", "Partitions whose orders are answered here.", registry=self.registry
        )
        self._working = Gauge(
            "paper_broker_working_orders", "Orders of which something is left to say.", registry=self.registry
        )
        for kind in ("new", "cancel", "bad"):
            self._orders.labels(kind)
        for report in ReportKind:
            self._reports.labels(report.value)

    def ordered(self, kind: str) -> None:
        """See Observer."""
        self._orders.labels(kind).inc()

    def reported(self, kind: ReportKind, seconds: float) -> None:
        """See Observer."""
        self._reports.labels(kind.value).inc()
        self._seconds.observe(max(0.0, seconds))

    def holds(self, partitions: int, working: int) -> None:
        """See Observer."""
        self._partitions.set(partitions)
        self._working.set(working)
