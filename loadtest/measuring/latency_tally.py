"""Counts answers by when they were meant, sent and seen; the warm-up left out."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from loadtest.measuring.latencies import Histogram, SeriesBuilder
from loadtest.measuring.result import RunResult, machine

Ints = npt.NDArray[np.int64]


class Tally:
    """The measured part of a run: what was meant from `from_ns` to `last_ns`. Memory does not grow with it."""

    def __init__(self, from_ns: int, last_ns: int) -> None:
        self.from_ns, self.last_ns = from_ns, last_ns
        self.seconds = max(1e-9, (last_ns - from_ns) / 1e9)
        self.planned = self.answered = self._visible = 0
        self._latency, self._service, self._lag = Histogram(), Histogram(), Histogram()
        self._series = SeriesBuilder(self.seconds)

    def measured(self, meant_ns: Ints) -> npt.NDArray[np.bool_]:
        """Which arrivals count."""
        return meant_ns >= self.from_ns

    def plan(self, meant_ns: Ints, sent_ns: Ints) -> None:
        """Every arrival, answered or not: when it was meant, and when it was sent."""
        counted = self.measured(meant_ns)
        late = sent_ns[counted] - meant_ns[counted]
        self.planned += len(late)
        self._lag.add(late)
        self._series.add_lag((meant_ns[counted] - self.from_ns) / 1e9, late)

    def add(self, meant_ns: Ints, sent_ns: Ints, done_ns: Ints) -> None:
        """First answers: when each was meant, sent and seen, by one clock. Those of the warm-up are left out.

        An answer that came in the measured part counts for the rate achieved whenever it was meant: what the
        warm-up left in a queue at the beginning is what a queue holds back at the end.
        """
        within = (done_ns >= self.from_ns) & (done_ns <= self.last_ns)
        self._visible += int(within.sum())
        self._series.add_visible((done_ns[within] - self.from_ns) / 1e9)
        counted = self.measured(meant_ns)
        meant_ns, sent_ns, done_ns = meant_ns[counted], sent_ns[counted], done_ns[counted]
        self.answered += len(meant_ns)
        took = done_ns - meant_ns
        self._latency.add(took)
        self._service.add(done_ns - sent_ns)
        self._series.add((meant_ns - self.from_ns) / 1e9, took)

    def result(self, **given: Any) -> RunResult:
        """The run; `given` are what a tally does not know."""
        return RunResult(
            machine=machine(),
            seconds=self.seconds,
            planned=self.planned,
            answered=self.answered,
            offered_per_s=self.planned / self.seconds,
            achieved_per_s=self._visible / self.seconds,
            latency=self._latency.summary(),
            service=self._service.summary(),
            lag=self._lag.summary(),
            series=self._series.build(),
            **given,
        )
