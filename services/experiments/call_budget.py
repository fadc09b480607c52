"""How much of Triton's time a shadow takes: a part of what nobody else wants."""

from __future__ import annotations

from collections.abc import Sequence

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

    def __init__(self, limits: CallLimits, clock: Clock) -> None:
        """Nothing was called yet."""
        self._limits, self._clock = limits, clock
        self._next_s = clock.monotonic_ns() / 1e9
        self._latencies: list[float] = []
        self._observed_s = clock.monotonic_ns() / 1e9
        self.rows = ROWS[0]

    def observe(self, decisions: Sequence[Decision]) -> None:
        """How quick the desk is: decisions of about now, in their order."""
        if not decisions:
            return
        self._observed_s = self._clock.monotonic_ns() / 1e9
        told = [
            (d.stages.features_us + d.stages.inference_us + d.stages.decide_us) / 1e3 for d in decisions[-WINDOW:]
        ]
        self._latencies = [*self._latencies, *told][-WINDOW:]

    @property
    def yields(self) -> bool:
        """Whether the desk is slow now; of what was seen long ago nothing is known now."""
        if self._clock.monotonic_ns() / 1e9 > self._observed_s + SEEN_S or not self._latencies:
            return False
        return float(np.percentile(self._latencies, 99)) > self._limits.yield_above_ms

    def wait(self) -> None:
        """Until the next call may be made."""
        left_s = self._next_s - self._clock.monotonic_ns() / 1e9
        if left_s > 0.0:
            self._clock.sleep(left_s)

    def called(self, took_s: float, rows: int) -> None:
        """A call of so many rows took so long."""
        # Half of the way: a single slow call says little.
        wanted = rows * CALL_TARGET_S / max(took_s, 1e-6)
        self.rows = int(min(max((self.rows + min(wanted, 4.0 * self.rows)) / 2.0, ROWS[0]), ROWS[1]))
        share = min(self._limits.share, YIELD_SHARE) if self.yields else self._limits.share
        self._next_s = self._clock.monotonic_ns() / 1e9 + took_s * (1.0 - share) / share
