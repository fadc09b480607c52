"""How long ticks gather between two batches: not at all while few come, and the longer the more of them come.

A batch costs a call of the model and a transaction, whatever its size; on two cores these are most of what a
decision costs. A batch that is decided while another's transaction commits leaves no earlier than one that is
decided just before that ends, and is the smaller for it.
"""

from __future__ import annotations

import math

#: At so many ticks a second the whole interval is kept; below, a share of it.
FULL_RATE = 2000.0
#: How fast the measured rate follows the real one.
FOLLOWS_NS = 250_000_000
#: A batch as large is decided while the one before it is published: what a batch costs is then a small part.
OVERLAPPING_ROWS = 256


class Pace:
    """Looks at what each poll brought; one thread uses it."""

    def __init__(self, interval_s: float, max_batch: int) -> None:
        """Prepare.

        Args:
            interval_s: between two polls, at FULL_RATE and beyond; 0 never waits.
            max_batch: rows of a full batch.
        """
        self._interval_ns = interval_s * 1e9
        self._overlapping = min(max_batch, OVERLAPPING_ROWS)
        self._max_batch = max_batch
        self._rate = 0.0
        self._rows, self._polled_ns = 0, 0

    def polled(self, rows: int, now_ns: int) -> None:
        """A poll ended now and brought so many rows."""
        passed_ns = max(1, now_ns - self._polled_ns)
        follow = 1.0 - math.exp(-passed_ns / FOLLOWS_NS)
        self._rate += (rows * 1e9 / passed_ns - self._rate) * follow
        self._rows, self._polled_ns = rows, now_ns

    @property
    def overlaps(self) -> bool:
        """Whether the next batch may be decided while the last one is published."""
        return self._rows >= self._overlapping

    def wait_ns(self, now_ns: int) -> float:
        """How long to let ticks gather before the next poll: after a full batch more wait already."""
        if self._rows >= self._max_batch:
            return 0.0
        share = min(1.0, self._rate / FULL_RATE)
        return max(0.0, self._polled_ns + share * self._interval_ns - now_ns)
