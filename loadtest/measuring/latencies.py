"""Latencies without loss: an HdrHistogram of the run, and counts over time for plots and for resampling."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
from hdrh.histogram import HdrHistogram
from msgspec import Struct

#: An HdrHistogram of microseconds to ten minutes, with three significant digits.
MAX_US, DIGITS = 600_000_000, 3
#: Buckets of the counts over time: each 1 % wider than the one before, from 10 us to ten minutes.
FIRST_US, GROWTH = 10.0, 1.01
BUCKETS = math.ceil(math.log(MAX_US / FIRST_US) / math.log(GROWTH)) + 1
#: A run has at most so many cells; those of a longer run last longer, so that memory stays constant.
MAX_CELLS = 600
Counts = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]


class LatencySummary(Struct, frozen=True):
    """A distribution in milliseconds. Percentiles are exact to three digits; NaN where nothing was counted.

    `histogram` is the whole of it, as HdrHistogram encodes it (microseconds).
    """

    count: int
    mean: float
    p50: float
    p95: float
    p99: float
    p99_9: float
    max: float
    histogram: str = ""


class Histogram:
    """An HdrHistogram that takes arrays."""

    def __init__(self, encoded: str = "") -> None:
        self.hdr = HdrHistogram.decode(encoded) if encoded else HdrHistogram(1, MAX_US, DIGITS)

    def add(self, values_ns: npt.NDArray[np.int64]) -> None:
        """Count latencies. What took longer than ten minutes counts as ten minutes."""
        us, counts = np.unique(np.clip(values_ns // 1000, 1, MAX_US), return_counts=True)
        for value, count in zip(us.tolist(), counts.tolist(), strict=True):
            self.hdr.record_value(value, count)

    def add_corrected(self, value_ns: int, expected_gap_ns: int) -> None:
        """Count a closed loop's latency, and those of the calls that it kept from being made meanwhile.

        A call that took v held back those of v - gap, v - 2 gap … down to the gap, as HdrHistogram's
        recordValueWithExpectedInterval counts them; its Python port counts the remainder below the gap too, which
        would make a slow server's median better. Without a gap nothing is corrected.
        """
        us, gap = max(1, min(value_ns // 1000, MAX_US)), expected_gap_ns // 1000
        self.hdr.record_value(us)
        missed = us - gap
        while gap > 0 and missed >= gap:
            self.hdr.record_value(missed)
            missed -= gap

    def merge(self, encoded: str) -> None:
        """Add what another counted."""
        self.hdr.decode_and_add(encoded)

    def encode(self) -> str:
        """As text."""
        encoded = self.hdr.encode()
        return str(encoded.decode() if isinstance(encoded, bytes) else encoded)

    def percentile_ms(self, percentile: float) -> float:
        """NaN where nothing was counted."""
        if not self.hdr.get_total_count():
            return math.nan
        return float(self.hdr.get_value_at_percentile(percentile)) / 1000.0

    def summary(self) -> LatencySummary:
        """The percentiles, and all of it."""
        some = self.hdr.get_total_count() > 0
        p50, p95, p99, p99_9 = (self.percentile_ms(p) for p in (50.0, 95.0, 99.0, 99.9))
        return LatencySummary(
            count=int(self.hdr.get_total_count()),
            mean=self.hdr.get_mean_value() / 1000.0 if some else math.nan,
            p50=p50,
            p95=p95,
            p99=p99,
            p99_9=p99_9,
            max=self.hdr.get_max_value() / 1000.0 if some else math.nan,
            histogram=self.encode(),
        )


class Cell(Struct, frozen=True, array_like=True):
    """What was meant for a part of a run: bucket numbers, and how many latencies fell into each."""

    buckets: list[int]
    counts: list[int]


class LatencySeries(Struct, frozen=True):
    """Latencies over time.

    Attributes:
        cell_s: length of a cell in seconds.
        cells: one a part of the measured run, in order.
        answered: decisions that became visible in each cell, whenever they were meant.
        lag_ms: how late the generator was at worst in each cell.
    """

    cell_s: float
    cells: list[Cell]
    answered: list[int]
    lag_ms: list[float]

    def matrix(self) -> Counts:
        """int64 [cells, BUCKETS]."""
        found = np.zeros((len(self.cells), BUCKETS), np.int64)
        for row, cell in zip(found, self.cells, strict=True):
            row[cell.buckets] = cell.counts
        return found


class SeriesBuilder:
    """Counts latencies by the time for which they were meant; memory does not grow with the run."""

    def __init__(self, seconds: float) -> None:
        self.cell_s = max(1.0, math.ceil(seconds / MAX_CELLS))
        self.cells = max(1, math.ceil(seconds / self.cell_s))
        self.counts = np.zeros((self.cells, BUCKETS), np.int64)
        self.answered = np.zeros(self.cells, np.int64)
        self.lag_ms = np.zeros(self.cells)

    def add(self, meant_s: Values, latency_ns: npt.NDArray[np.int64]) -> None:
        """Latencies by the seconds after the warm-up for which they were meant."""
        np.add.at(self.counts, (self._cell(meant_s), bucket_of(latency_ns / 1e3)), 1)

    def add_lag(self, meant_s: Values, lag_ns: npt.NDArray[np.int64]) -> None:
        """How late the generator was, by seconds after the warm-up."""
        np.maximum.at(self.lag_ms, self._cell(meant_s), lag_ns / 1e6)

    def add_visible(self, visible_s: Values) -> None:
        """When answers came, in seconds after the warm-up; what came outside the run is not counted."""
        inside = visible_s[(visible_s >= 0.0) & (visible_s < self.cells * self.cell_s)]
        self.answered += np.bincount(self._cell(inside), minlength=self.cells)

    def build(self) -> LatencySeries:
        """What was counted."""
        cells = []
        for row in self.counts:
            some = np.flatnonzero(row)
            cells.append(Cell(some.tolist(), row[some].tolist()))
        return LatencySeries(
            self.cell_s, cells, self.answered.tolist(), [round(x, 3) for x in self.lag_ms.tolist()]
        )

    def _cell(self, at_s: Values) -> npt.NDArray[np.int64]:
        return np.clip((at_s // self.cell_s).astype(np.int64), 0, self.cells - 1)


def bucket_of(us: Values) -> npt.NDArray[np.int64]:
    """The bucket of each value."""
    return np.clip(np.log(np.maximum(us, FIRST_US) / FIRST_US) / math.log(GROWTH), 0, BUCKETS - 1).astype(np.int64)


def quantile_ms(counts: Values | Counts, q: float | Iterable[float]) -> Values:
    """Quantiles of counts by bucket; values are taken to lie evenly, by logarithm, within their bucket.

    Args:
        counts: int64 or float64 [..., BUCKETS].
        q: one or several, 0 to 1.

    Returns:
        float64 [..., len(q)], milliseconds; NaN where nothing was counted.
    """
    wanted = np.atleast_1d(np.asarray(q, np.float64))
    cumulated = np.cumsum(counts, axis=-1, dtype=np.float64)
    total = cumulated[..., -1:]
    rank = np.maximum(total * wanted, np.finfo(np.float64).tiny)
    places = np.minimum((cumulated[..., None, :] < rank[..., :, None]).sum(axis=-1), BUCKETS - 1)
    upto = np.take_along_axis(cumulated, places, axis=-1)
    held = np.maximum(np.take_along_axis(np.asarray(counts, np.float64), places, axis=-1), 1e-300)
    within = np.clip(1.0 - (upto - rank) / held, 0.0, 1.0)
    return np.where(total > 0, FIRST_US * GROWTH ** (places + within) / 1000.0, np.nan)
