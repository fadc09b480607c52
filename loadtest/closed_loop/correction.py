"""What Locust's users saw, without Locust's rounding: kept by worker processes, merged by the master.

Locust keeps response times to two digits, and a closed loop hides what it could not ask while it waited. Here every
answer goes into two HdrHistograms: raw, and corrected by the gap that the user meant to keep.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from msgspec import structs

from loadtest.measuring.latencies import (
    BUCKETS,
    MAX_CELLS,
    MAX_US,
    Cell,
    Histogram,
    LatencySeries,
    LatencySummary,
    bucket_of,
)
from loadtest.measuring.result import RunResult, machine

#: Different errors that are told apart.
MOST_ERRORS = 20
#: Seconds that a process keeps apart before they go where memory does not grow.
UNFOLDED = 60


class Watched:
    """One kind of request."""

    def __init__(self) -> None:
        self.raw, self.corrected, self.lag = Histogram(), Histogram(), Histogram()
        self.count = self.failed = 0
        self.errors: Counter[str] = Counter()
        self.cells: dict[int, Counter[int]] = {}

    def add(self, latency_ns: int, gap_ns: int, lag_ns: int, at_s: float, error: str) -> None:
        """One request, and what went wrong with it.

        A request that failed late stands for all that could not be asked meanwhile: they would have failed too.
        """
        self.lag.hdr.record_value(max(1, min(lag_ns // 1000, MAX_US)))
        cell = self.cells.setdefault(int(at_s), Counter())
        if error:
            held_back = max(1, latency_ns // gap_ns) if gap_ns > 0 else 1
            self.count += held_back
            self.failed += held_back
            known = error in self.errors or len(self.errors) < MOST_ERRORS
            self.errors[error if known else "others"] += held_back
            return
        self.count += 1
        self.raw.hdr.record_value(max(1, latency_ns // 1000))
        self.corrected.add_corrected(latency_ns, gap_ns)
        bucket = int(bucket_of(np.array([latency_ns / 1e3]))[0])
        cell[bucket] += 1

    def pack(self) -> dict[str, Any]:
        """For a message to the master."""
        return {
            "raw": self.raw.encode(),
            "corrected": self.corrected.encode(),
            "lag": self.lag.encode(),
            "count": self.count,
            "failed": self.failed,
            "errors": dict(self.errors),
            "cells": {str(second): [list(c.keys()), list(c.values())] for second, c in self.cells.items()},
        }


class Watch:
    """All kinds by name, and what workers reported of theirs."""

    def __init__(self) -> None:
        self._kinds: dict[str, Watched] = {}
        self._cells: dict[str, GrowingCells] = {}

    @property
    def names(self) -> list[str]:
        """Of the kinds that were seen."""
        return list(self._kinds)

    def add(self, name: str, latency_ns: int, gap_ns: int, lag_ns: int, at_s: float, error: str) -> None:
        """One request of this process."""
        kind = self._kinds.setdefault(name, Watched())
        kind.add(latency_ns, gap_ns, lag_ns, at_s, error)
        if len(kind.cells) > UNFOLDED:
            self._fold(name, kind.cells)
            kind.cells = {}

    def take(self) -> dict[str, Any]:
        """What was seen since the last call, for the master; forgotten here."""
        taken = {name: kind.pack() for name, kind in self._kinds.items()}
        self._kinds = {}
        return taken

    def merge(self, taken: dict[str, Any]) -> None:
        """What a worker took."""
        for name, packed in taken.items():
            kind = self._kinds.setdefault(name, Watched())
            kind.raw.merge(packed["raw"])
            kind.corrected.merge(packed["corrected"])
            kind.lag.merge(packed["lag"])
            kind.count += packed["count"]
            kind.failed += packed["failed"]
            kind.errors.update(packed["errors"])
            self._fold(name, {int(s): dict(zip(*c, strict=True)) for s, c in packed["cells"].items()})

    def fold(self) -> None:
        """Move this process's cells where memory does not grow."""
        for name, kind in self._kinds.items():
            self._fold(name, kind.cells)
            kind.cells = {}

    def result(self, name: str, *, started_at: str, warm_up_s: float, settings: dict[str, str]) -> RunResult:
        """A kind's run. `latency` is corrected, `service` is raw, `lag` is how late users asked."""
        self.fold()
        kind = self._kinds[name]
        cells = self._cells.get(name, GrowingCells())
        answered = kind.count - kind.failed
        seconds = max(1.0, cells.seconds)
        return RunResult(
            target=name,
            settings=settings,
            started_at=started_at,
            machine=machine(),
            warm_up_s=warm_up_s,
            seconds=seconds,
            planned=kind.count,
            sent=kind.count,
            answered=answered,
            missing=0,
            errors=dict(kind.errors),
            offered_per_s=kind.count / seconds,
            achieved_per_s=answered / seconds,
            model="closed",
            latency=worse(kind.corrected.summary(), kind.raw.summary()),
            service=kind.raw.summary(),
            lag=kind.lag.summary(),
            series=cells.series(),
        )

    def _fold(self, name: str, cells: dict[int, Any]) -> None:
        grown = self._cells.setdefault(name, GrowingCells())
        for second, counts in cells.items():
            grown.add(second, counts)


def worse(a: LatencySummary, b: LatencySummary) -> LatencySummary:
    """A's distribution with the larger of both percentiles: a correction never makes a server look quicker."""
    larger = {name: max(getattr(a, name), getattr(b, name)) for name in ("p50", "p95", "p99", "p99_9", "max")}
    return structs.replace(a, **larger)


class GrowingCells:
    """Cells of a run whose length nobody knows: when there are too many, each two become one."""

    def __init__(self) -> None:
        self._cell_s = 1
        self._counts: dict[int, np.ndarray[Any, np.dtype[np.int64]]] = {}

    @property
    def seconds(self) -> float:
        """From the first second to the last."""
        return float((max(self._counts) + 1) * self._cell_s) if self._counts else 0.0

    def add(self, second: int, counts: dict[int, int]) -> None:
        """Latencies by bucket of what was asked in a second."""
        cell = self._counts.setdefault(second // self._cell_s, np.zeros(BUCKETS, np.int64))
        for bucket, count in counts.items():
            cell[int(bucket)] += count
        while self._counts and max(self._counts) >= MAX_CELLS:
            halved: dict[int, np.ndarray[Any, np.dtype[np.int64]]] = {}
            for place, counted in self._counts.items():
                halved[place // 2] = halved.get(place // 2, np.zeros(BUCKETS, np.int64)) + counted
            self._counts, self._cell_s = halved, self._cell_s * 2

    def series(self) -> LatencySeries:
        """As a result keeps them."""
        cells = []
        for place in range(max(self._counts, default=-1) + 1):
            counted = self._counts.get(place, np.zeros(BUCKETS, np.int64))
            some = np.flatnonzero(counted)
            cells.append(Cell(some.tolist(), counted[some].tolist()))
        answered = [sum(cell.counts) for cell in cells]
        return LatencySeries(float(self._cell_s), cells, answered, [0.0] * len(cells))
