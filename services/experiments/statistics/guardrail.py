"""Whether a challenger does harm: what more of is worse, compared with the champion's, block by block."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from msgspec import Struct

from services.experiments.statistics.sequence import ConfidenceSequence
from trading.arrays import FloatArray

#: A guardrail speaks sooner than a verdict: a false alarm costs a person's look, harm costs money.
FEWEST_BLOCKS = 20


class Breach(Struct, frozen=True):
    """Harm that was shown.

    Attributes:
        blocks: after how many it was shown.
        excess: how much above the champion's the challenger's was: of the block that did it, or the mean's lower
            bound.
        bound: that it passed.
        at_once: whether one block did it by itself.
    """

    blocks: int
    excess: float
    bound: float
    at_once: bool


class Guardrail(Struct, frozen=True):
    """How much worse a challenger may be.

    Attributes:
        tolerance: what the mean of the differences may be, 0 or more, in the metric's unit.
        at_once: what the difference of a single block may be; infinite where one block proves nothing.
        alpha: chance that one who is within the tolerance is ever accused by the mean, in (0, 1).
        planned: blocks after which an answer is wanted.
    """

    tolerance: float
    at_once: float
    alpha: float
    planned: int = 200

    def breach(self, differences: FloatArray) -> Breach | None:
        """The first harm that these show, None where they show none; what was shown once stays shown.

        Args:
            differences: float64 [n], challenger's less champion's, one a block in their order. One that is no
                number cannot be seen to be harmless, and is harm: NaN counts as infinite.
        """
        seen = np.where(np.isnan(differences), np.inf, differences)
        over = np.flatnonzero((seen > self.at_once) | (np.isposinf(seen)))
        first = int(over[0]) if len(over) else len(seen)
        sequence = ConfidenceSequence(self.planned, self.alpha, lower_only=True, fewest=FEWEST_BLOCKS)
        for blocks in looks_until(first):
            interval = sequence.look(seen[:blocks])
            # What was always alike has no interval, and needs none; what only began alike has none yet.
            alike = not interval.variance and bool((seen[:blocks] == seen[0]).all())
            lower = interval.mean if alike else interval.lower
            if lower > self.tolerance:
                return Breach(blocks, lower, self.tolerance, at_once=False)
        return Breach(first + 1, float(seen[first]), self.at_once, at_once=True) if first < len(seen) else None


def looks_until(blocks: int) -> Iterator[int]:
    """After how many blocks a guardrail looks: every 10 of the first 200, then at every 20th part more.

    The same looks however often somebody asks, so that what was shown once stays shown.
    """
    look = FEWEST_BLOCKS
    while look <= blocks:
        yield look
        look += max(10, look // 20)
