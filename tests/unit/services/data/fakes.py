"""A ticks' topic in memory, and a desk's worth of ticks to put into it."""

from __future__ import annotations

import numpy as np

from trading.encoding import encode
from trading.errors import ServiceUnavailable
from trading.market import Tick
from trading.state.log import LoggedMessage

DAY_NS = 86_400 * 1_000_000_000
BEGIN_NS = 1_764_000_000_000_000_000


def some_ticks(count, symbols=("A", "B/C", ".."), seed=1, begin_ns=BEGIN_NS, step_ns=1_000_000_000, late=0.1):
    """Ticks of several symbols; some are dated back."""
    rng = np.random.default_rng(seed)
    times = (
        begin_ns + np.arange(count) * step_ns - (rng.random(count) < late) * rng.integers(0, 20 * step_ns, count)
    )
    prices = 100 + np.cumsum(rng.normal(0, 0.1, count))
    return [
        Tick(
            symbols[int(rng.integers(len(symbols)))], int(times[k]), round(float(prices[k]), 4),
            round(float(prices[k]) + 0.02, 4), float(rng.integers(1, 100)), float(rng.integers(1, 100)),
            *((round(float(prices[k]), 4), 1.0) if k % 3 else ()),
        )
        for k in range(count)
    ]  # fmt: skip


def messages_of(ticks, first=0, begin_ns=BEGIN_NS, step_ns=1_000_000_000):
    """As they lie in a partition, appended in their order."""
    return [
        LoggedMessage(first + k, begin_ns + k * step_ns, b"K", encode(tick), None, begin_ns + k * step_ns)
        for k, tick in enumerate(ticks)
    ]


class FakeTickLog:
    """Partitions in memory; `down` refuses so many calls, `chunk` is what a read gives of each."""

    def __init__(self, partitions, topic_id="id-1", chunk=100):
        self.partitions, self.id, self.chunk = partitions, topic_id, chunk
        self.first, self.places, self.down, self.closed = {}, {}, 0, False

    def _answer(self):
        if self.down:
            self.down -= 1
            raise ServiceUnavailable("no broker")

    def topic_id(self):
        self._answer()
        return self.id

    def bounds(self):
        self._answer()
        return {
            p: (self.first.get(p, 0), messages[-1].offset + 1 if messages else 0)
            for p, messages in self.partitions.items()
        }

    def start(self, places):
        self._answer()
        self.places = dict(places)

    def read(self, timeout_s):
        self._answer()
        found = {}
        for partition, at in self.places.items():
            ready = [m for m in self.partitions[partition] if m.offset >= at][: self.chunk]
            if ready:
                found[partition] = ready
                self.places[partition] = ready[-1].offset + 1
        return found

    def close(self):
        self.closed = True
