"""Users as the recorded feed came: its arrivals a second, its busiest second the peak."""

from __future__ import annotations

from functools import lru_cache
from itertools import islice
from typing import Any

import numpy as np

from loadtest.measuring.latencies import Values
from loadtest.shapes.base import Shape
from trading.history import open_source

MOST = 300_000


@lru_cache
def intensity(source: str) -> Values:
    """float64 [seconds of the recording]: arrivals in each, as a share of the busiest.

    Raises SourceError for a SOURCE that cannot be read.
    """
    arrived = np.array([r.arrival_ns for r in islice(open_source(source).records(), MOST)], np.int64)
    seconds = np.maximum.accumulate(arrived - arrived[0]) // 1_000_000_000
    # Ticks that are days apart have no busy seconds: the n-th tick is then in the n-th second.
    if seconds[-1] > MOST:
        seconds = np.arange(len(arrived))
    counts = np.bincount(seconds)
    return np.asarray(counts / counts.max(), np.float64)


class Recorded(Shape):
    """Users as the recorded feed came; a test longer than the recording plays it again."""

    def share(self, at: float, options: Any) -> float:
        """See the class."""
        shares = intensity(options.data)
        return float(shares[int(at * options.shape_time) % len(shares)])
