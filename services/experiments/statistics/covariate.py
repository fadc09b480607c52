"""Variance that something known beforehand explains, taken out of a difference of arms.

A. Deng, Y. Xu, R. Kohavi, T. Walker, "Improving the sensitivity of online controlled experiments by utilizing
pre-experiment data", WSDM 2013 (CUPED). What is taken out of a block is fitted on the blocks before it alone, so
that its mean stays what it was at every moment.
"""

from __future__ import annotations

import numpy as np

from services.experiments.statistics.sequence import FEWEST_BLOCKS
from trading.arrays import FloatArray

#: A share of the variance that is worth it: less is luck.
WORTH = 0.02


def adjusted(outcomes: FloatArray, covariate: FloatArray) -> FloatArray:
    """The outcomes without what the covariate explains of them, where it does.

    Args:
        outcomes: float64 [n], one a block, in their order.
        covariate: float64 [n], of the same blocks, whose mean is known to be 0: the same contrast of arms, of
            something that no arm can move.

    Returns:
        float64 [n]; the mean is an unbiased estimate of the same as that of `outcomes`.
    """
    n = len(outcomes)
    if n == 0:
        return outcomes.copy()
    # Moments of the blocks before each; the covariate's mean is known.
    before = np.arange(n, dtype=np.float64)
    safe = np.maximum(before, 1.0)

    def moment(values: FloatArray) -> FloatArray:
        sums = np.concatenate([[0.0], np.cumsum(values)[:-1]])
        mean: FloatArray = sums / safe
        return mean

    xx, xy = moment(covariate**2), moment(covariate * outcomes)
    yy = moment(outcomes**2) - moment(outcomes) ** 2
    slope = np.divide(xy, xx, out=np.zeros(n), where=xx > 0.0)
    explained = np.divide(xy**2, xx * yy, out=np.zeros(n), where=(xx > 0.0) & (yy > 0.0))
    used = (before >= FEWEST_BLOCKS) & (explained >= WORTH)
    found: FloatArray = outcomes - np.where(used, slope, 0.0) * covariate
    return found
