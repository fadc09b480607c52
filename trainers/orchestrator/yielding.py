"""Training yields to the desk: where the desk is slower than it should be, steps that yield stand still.

How quick the desk is without them is measured while none of them runs: a desk that is slow by itself is not slowed
down by who stands still, and would keep them standing for ever by the second of the two bounds alone.
"""

from __future__ import annotations

import math
from collections import deque
from statistics import median

from msgspec import Struct


class YieldSettings(Struct, frozen=True):
    """When steps stand still.

    Attributes:
        most_ms: p99 of the desk above which they do, whatever it was before.
        most_ratio: of the desk's p99 with them to that without.
        patience: looks in a row that must be too slow.
        rest_s: they stand still so long at least; twice as long each time that it comes again soon.
        most_rest_s: at most.
        trial_s: where the desk stays slow while they stand still, it is not they: after so long they go on.
    """

    most_ms: float = 50.0
    most_ratio: float = 1.25
    patience: int = 2
    rest_s: float = 10.0
    most_rest_s: float = 300.0
    trial_s: float = 600.0


#: Looks that tell what the desk is without them; below this p99, in ms, a ratio says nothing: clocks and schedulers
#: do.
REMEMBERED, QUIET_MS = 60, 10.0


class Yielding:
    """Decides, look by look, whether steps that yield stand still.

    Attributes:
        paused: whether they do now.
        why: in words; "" while they run.
    """

    def __init__(self, settings: YieldSettings | None = None) -> None:
        """They run."""
        self._settings = settings or YieldSettings()
        self._alone: deque[float] = deque(maxlen=REMEMBERED)
        self._slow, self._since_s, self._rest_s = 0, -math.inf, self._settings.rest_s
        self.paused, self.why = False, ""

    @property
    def alone_ms(self) -> float | None:
        """The desk's p99 without them; None where it was not seen yet."""
        return median(self._alone) if self._alone else None

    def bound_ms(self) -> float:
        """Above which they stand still."""
        alone = self.alone_ms
        if alone is None:
            return self._settings.most_ms
        return min(self._settings.most_ms, max(QUIET_MS, alone * self._settings.most_ratio))

    def look(self, p99_ms: float | None, now_s: float, *, running: bool) -> bool:
        """Take a look; whether they stand still from now on.

        Args:
            p99_ms: the desk's; None where nothing is decided, or nobody can tell.
            now_s: of a clock that does not step.
            running: whether steps that yield run, or stand still.
        """
        if p99_ms is not None and math.isfinite(p99_ms) and (not running or self.paused):
            self._alone.append(p99_ms)
        if not running:
            self._go_on()
            return False
        if self.paused:
            self._maybe_go_on(p99_ms, now_s)
        elif p99_ms is None or p99_ms <= self.bound_ms():
            self._slow = 0
        else:
            self._slow += 1
            if self._slow >= self._settings.patience:
                self._stand_still(p99_ms, now_s)
        return self.paused

    def _stand_still(self, p99_ms: float, now_s: float) -> None:
        soon = now_s - self._since_s < 4 * self._rest_s
        longer = min(self._settings.most_rest_s, self._rest_s * 2) if soon else self._settings.rest_s
        told = f"p99 is {p99_ms:.1f} ms" if math.isfinite(p99_ms) else "gateway is too busy to say its p99"
        self.why = f"the desk's {told}, above {self.bound_ms():.1f} ms"
        self.paused, self._since_s, self._rest_s, self._slow = True, now_s, longer, 0

    def _maybe_go_on(self, p99_ms: float | None, now_s: float) -> None:
        still_s = now_s - self._since_s
        if still_s < self._rest_s:
            return
        if p99_ms is None or p99_ms <= self._settings.most_ms or still_s >= self._settings.trial_s:
            self._go_on()

    def _go_on(self) -> None:
        self.paused, self.why, self._slow = False, "", 0
