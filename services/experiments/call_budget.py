"""How much of Triton's time a shadow takes: a part of what nobody else wants."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from msgspec import Struct

from services.experiments.ports import Clock
from trading.decision.schema import Decision

#: While the desk is slow calls take this share of the time at most.
YIELD_SHARE = 0.05
#: Latencies that are looked at: of the last so many decisions.
WINDOW = 500
#: What was seen of the desk counts for so long.
SEEN_S = 10.0
#: A call takes so long, by what the last ones took: the desk's own may wait behind it, and its slowest ticks feel
#: many short waits less than a few long ones. Its rows, at least and at most.
CALL_TARGET_S = 0.005
ROWS = (8, 256)
#: Between two calls, at most; and a wait that nobody can end.
MOST_PAUSE_S, MOMENT_S = 2.0, 0.2


class CallLimits(Struct, frozen=True):
    """What a shadow may take.

    Attributes:
        share: of the time that may be spent in calls, in (0, 1].
        yield_above_ms: 99 of 100 of the desk's decisions must take less from polling to deciding, or the shadow
            takes a twentieth of the time at most.
    """

    share: float = 0.25
    yield_above_ms: float = 25.0


class CallBudget:
    """Lets calls pass so that they take their share of time, and next to none while the desk is slow.

    Attributes:
        rows: of the next call, at most.
    """

    def __init__(self, limits: CallLimits, clock: Clock, among: Callable[[], int] = lambda: 1) -> None:
        """Nothing was called yet.

        Args:
            limits: of all who call.
            clock: of waits.
            among: how many share them.
        """
        self._limits, self._clock, self._among = limits, clock, among
        self._next_s = self._seconds()
        self._latencies: list[float] = []
        self._observed_s = self._seconds()
        self._cheapest_s = math.inf
        self.rows = ROWS[0]

    def observe(self, decisions: Sequence[Decision]) -> None:
        """How quick the desk is: decisions of about now, in their order."""
        if not decisions:
            return
        self._observed_s = self._seconds()
        told = [
            (d.stages.features_us + d.stages.inference_us + d.stages.decide_us) / 1e3 for d in decisions[-WINDOW:]
        ]
        self._latencies = [*self._latencies, *told][-WINDOW:]

    @property
    def yields(self) -> bool:
        """Whether the desk is slow now; of what was seen long ago nothing is known now."""
        if self._seconds() > self._observed_s + SEEN_S or not self._latencies:
            return False
        return float(np.percentile(self._latencies, 99)) > self._limits.yield_above_ms

    def wait(self) -> bool:
        """Until the next call may be made, a moment at most; whether it may be made now."""
        left_s = self._next_s - self._seconds()
        if left_s > 0.0:
            self._clock.sleep(min(left_s, MOMENT_S))
        return left_s <= MOMENT_S

    def called(self, took_s: float, rows: int) -> None:
        """A call of so many rows took so long; 0 rows where there was no answer, which says nothing of them."""
        if rows:
            self._learn(took_s, rows)
        share = self._limits.share
        share = (min(share, YIELD_SHARE) if self.yields else share) / max(1, self._among())
        # However long one took, the next is tried before long: whoever waits for it looks at no guardrail.
        self._next_s = self._seconds() + min(took_s * (1.0 - share) / share, MOST_PAUSE_S)

    def _learn(self, took_s: float, rows: int) -> None:
        # What a call costs whatever its rows no smaller one spares.
        self._cheapest_s = min(self._cheapest_s, took_s)
        target_s = max(CALL_TARGET_S, 2.0 * self._cheapest_s)
        # A quick call of fewer rows than it might have had says nothing of more.
        if rows >= self.rows or took_s > target_s:
            # Half of the way: a single slow call says little.
            wanted = min(rows * target_s / max(took_s, 1e-6), 4.0 * self.rows)
            self.rows = int(min(max((self.rows + wanted) / 2.0, ROWS[0]), ROWS[1]))

    def _seconds(self) -> float:
        return self._clock.monotonic_ns() / 1e9
