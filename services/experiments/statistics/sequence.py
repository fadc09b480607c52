"""The mean of blocks' outcomes, with an interval that holds at every moment that somebody looks."""

from __future__ import annotations

import math

import numpy as np
from msgspec import Struct

from services.experiments.statistics.boundaries import one_sided, two_sided
from services.experiments.statistics.long_run_variance import long_run_variance
from trading.arrays import FloatArray

#: Below it nothing is said of a mean: what is estimated of so few blocks is luck.
FEWEST_BLOCKS = 100


class Interval(Struct, frozen=True):
    """Where a mean lies.

    Attributes:
        blocks: that it was estimated from.
        mean: of their outcomes, in the outcomes' unit; NaN without any.
        lower, upper: ends of the interval; infinite where too few blocks, or ones that are all alike, say nothing.
        variance: a block's share of their sum's, autocorrelation included; 0 where nothing is said.
        scale: the variance that the boundary was chosen for; 0 where nothing is said.
    """

    blocks: int
    mean: float
    lower: float
    upper: float
    variance: float
    scale: float = 0.0


class ConfidenceSequence(Struct, frozen=True):
    """How the intervals of one mean are made: with a chance of 1 - `alpha` none of them ever leaves it out.

    Attributes:
        planned: blocks after which an answer is wanted: there the interval is narrowest for what is known by then.
        alpha: chance that the mean is ever outside, in (0, 1).
        lower_only: whether all that is asked is if the mean is above something: `lower` is nearer then, `upper`
            infinite.
        fewest: blocks before which nothing is said.
    """

    planned: int
    alpha: float
    lower_only: bool = False
    fewest: int = FEWEST_BLOCKS

    def look(self, outcomes: FloatArray) -> Interval:
        """The interval now: a function of the outcomes alone, however often somebody has looked before.

        Args:
            outcomes: float64 [n], of all blocks so far, in their order. One that is not finite says nothing of any.
        """
        n = len(outcomes)
        if not n or not np.isfinite(outcomes).all():
            return Interval(n, math.nan, -math.inf, math.inf, 0.0)
        mean, scale = float(outcomes.mean()), self._scale(outcomes)
        variance = long_run_variance(outcomes) if scale else 0.0
        if not scale or not math.isfinite(variance):
            return Interval(n, mean, -math.inf, math.inf, 0.0)
        radius = self.radius(n, variance, scale)
        upper = math.inf if self.lower_only else mean + radius
        return Interval(n, mean, mean - radius, upper, variance, scale)

    def radius(self, blocks: int, variance: float, scale: float) -> float:
        """How far from the mean an end of its interval lies.

        Args:
            blocks: 1 or more.
            variance: a block's share of the sum's.
            scale: the variance that was expected when the boundary was chosen, above 0.
        """
        boundary = one_sided if self.lower_only else two_sided
        return float(boundary(np.array([blocks * variance]), self.planned * scale, self.alpha)[0]) / blocks

    def blocks_until(self, distance: float, interval: Interval, most: int) -> int | None:
        """After how many blocks an end lies within `distance` of the mean, if they go on so; None beyond `most`."""
        if distance <= 0.0 or interval.variance <= 0.0:
            return None

        def is_near(blocks: int) -> bool:
            return self.radius(blocks, interval.variance, interval.scale) <= distance

        if not is_near(most):
            return None
        low, high = 1, most
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if is_near(middle) else (middle + 1, high)
        return low

    def _scale(self, outcomes: FloatArray) -> float:
        """The variance by which the boundary is chosen: of the first blocks, so that it stays what it is.

        A boundary whose scale followed the data would be another one at each look, and promise nothing of all of
        them. Of blocks that are all alike at first, the ones that follow count too. 0 where there are too few.
        """
        others = np.flatnonzero(outcomes != outcomes[0])
        if not len(others):
            return 0.0
        needed = self.fewest + (int(others[0]) if others[0] >= self.fewest else 0)
        return long_run_variance(outcomes[:needed]) if needed <= len(outcomes) else 0.0
