"""How near orders come to the limits of risk, of all partitions together."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily

#: Orders of the last one to two of these count. A batch has those of some partitions only: what one of them has
#: left is not hidden by the next, of others; and what an order of long ago had left says nothing of now. An alert
#: that must last for ten seconds, of figures that are read and judged each five, hears of a single order.
SPAN_S = 20.0


class LeastHeadroom:
    """A gauge by rule: the least share of its limit that an order left lately; no figure where there was none."""

    def __init__(self, registry: CollectorRegistry, now: Callable[[], float] = time.monotonic) -> None:
        self._now, self._until = now, now() + SPAN_S
        self._present: dict[str, float] = {}
        self._before: dict[str, float] = {}
        # Whoever scrapes does it in a thread of his own.
        self._lock = threading.Lock()
        registry.register(self)

    def note(self, shares: Mapping[str, float]) -> None:
        """Rule -> the least share that an order of a batch left."""
        with self._lock:
            self._turn()
            for rule, share in shares.items():
                self._present[rule] = min(share, self._present.get(rule, share))

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """What a scrape reads."""
        family = GaugeMetricFamily(
            "gateway_rule_headroom_ratio",
            f"Least share of a limit that an order of the last {SPAN_S:.0f} to {2 * SPAN_S:.0f} seconds left",
            labels=["rule"],
        )
        for rule, share in sorted(self._least().items()):
            family.add_metric([rule], share)
        return [family]

    def _least(self) -> dict[str, float]:
        with self._lock:
            self._turn()
            found = dict(self._before)
            for rule, share in self._present.items():
                found[rule] = min(share, found.get(rule, share))
            return found

    def _turn(self) -> None:
        if (now := self._now()) >= self._until:
            spans = 1 + (now - self._until) // SPAN_S
            # Where nothing was asked for longer than a span, what is present is of before that.
            self._before = self._present if spans == 1 else {}
            self._present, self._until = {}, self._until + spans * SPAN_S
