"""Whether arms were given their shares, at every moment that somebody looks.

Each unit that comes to a challenger with probability p multiplies the evidence by how much better a share with
other odds explains it: a martingale under the promised share, also where that share was ramped, and so by Ville's
inequality above 1 / alpha with a chance of alpha at most. Mixed over many odds, none needs be chosen. M. Lindon, A.
Malek, "Anytime-valid inference for multinomial count data", NeurIPS 2022, has it for shares that stay as they are.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.special import logsumexp

from trading.arrays import FloatArray, Int64Array

#: Standard deviation of the odds' logarithm in the mixture: a tenth is a split of 47.5 to 52.5 instead of halves.
SPREAD = 0.2
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(40)
TILTS: FloatArray = SPREAD * _NODES
LOG_WEIGHTS: FloatArray = np.log(_WEIGHTS / _WEIGHTS.sum())


class SampleRatio:
    """Evidence that an arm is not given its share."""

    def __init__(self) -> None:
        """Nothing is counted yet."""
        self._logs = np.zeros_like(TILTS)
        self.units = 0
        self.treated = 0
        self.expected = 0.0

    def add(self, units: int, treated: int, share: float) -> None:
        """Count units that were assigned under one share.

        Args:
            units: how many.
            treated: of them, those that the arm was given; no more than `units`.
            share: that was promised, in [0, 1].
        """
        if not 0 <= treated <= units or not 0.0 <= share <= 1.0:
            raise ValueError(f"{treated} of {units} units at a share of {share}")
        self.units += units
        self.treated += treated
        self.expected += units * share
        if share in {0.0, 1.0}:
            # Certain: one that is elsewhere proves the fault by itself.
            if treated != units * share:
                self._logs[:] = math.inf
            return
        self._logs += treated * TILTS - units * np.log1p(share * np.expm1(TILTS))

    @property
    def log_evidence(self) -> float:
        """Logarithm of the evidence against the promised shares."""
        return math.inf if np.isinf(self._logs).any() else float(logsumexp(LOG_WEIGHTS + self._logs))

    def is_broken(self, alpha: float) -> bool:
        """Whether it is shown; of an arm that has its share it ever is with a chance of `alpha` at most."""
        return self.log_evidence >= -math.log(alpha)


def of_counts(units: Int64Array, treated: Int64Array, shares: FloatArray) -> SampleRatio:
    """What was counted, by block: int64 [n], int64 [n] and float64 [n]."""
    found = SampleRatio()
    for n, k, share in zip(units.tolist(), treated.tolist(), shares.tolist(), strict=True):
        found.add(n, k, share)
    return found
