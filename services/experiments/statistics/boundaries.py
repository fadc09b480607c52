"""How far a sum may stray from its mean, at all times at once: the normal mixture's boundaries.

A sum with variance V (its intrinsic time) stays within the boundary at every moment with the probability that was
asked for, so whoever looks as often as he likes, and stops when he likes, is misled no more often than that.

Sources: S. R. Howard, A. Ramdas, J. McAuliffe, J. Sekhon, "Time-uniform, nonparametric, nonasymptotic confidence
sequences", Annals of Statistics 49 (2021); I. Waudby-Smith, D. Arbour, R. Sinha, E. H. Kennedy, A. Ramdas,
"Time-uniform central limit theory and asymptotic confidence sequences", Annals of Statistics 52 (2024), by which
they hold for means whose variance is estimated, as the number of outcomes grows.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.special import lambertw

from trading.arrays import FloatArray


def mixture_variance(planned: float, alpha: float) -> float:
    """The mixture's parameter with which a two-sided boundary is narrowest where the intrinsic time is `planned`.

    Howard et al. (2021), section 3.5: planned / parameter = -W(-alpha^2 / e) - 1, with the lower branch of
    Lambert's W.

    Args:
        planned: intrinsic time, above 0.
        alpha: chance of ever straying, in (0, 1).
    """
    ratio = -float(lambertw(-(alpha**2) / math.e, k=-1).real) - 1.0
    return planned / ratio


def two_sided(variance: FloatArray, planned: float, alpha: float) -> FloatArray:
    """What a sum's distance from its mean passes at any moment with a chance of `alpha` at most.

    Howard et al. (2021), equation 14.

    Args:
        variance: float64 [n], intrinsic times.
        planned: where the boundary is narrowest.
        alpha: chance of ever straying, in (0, 1).

    Returns:
        float64 [n], in the unit of the sum.
    """
    mixed = mixture_variance(planned, alpha)
    grown = variance + mixed
    found: FloatArray = np.sqrt(grown * np.log(grown / (mixed * alpha**2)))
    return found


def one_sided(variance: FloatArray, planned: float, alpha: float) -> FloatArray:
    """What a sum is above its mean at any moment with a chance of `alpha` at most.

    Waudby-Smith et al. (2024), proposition B.1: the closed bound of Howard et al.'s one-sided normal mixture, a
    little wider than the exact one.

    Args:
        variance: float64 [n], intrinsic times.
        planned: near where the boundary is narrowest.
        alpha: chance of ever straying, in (0, 1).

    Returns:
        float64 [n], in the unit of the sum.
    """
    # The half that looks one way is about as narrow as the whole at twice the chance.
    mixed = mixture_variance(planned, min(2.0 * alpha, 0.99))
    grown = variance + mixed
    found: FloatArray = np.sqrt(2.0 * grown * np.log1p(np.sqrt(grown / mixed) / (2.0 * alpha)))
    return found
