"""The variance of a sum of outcomes that depend on each other: a block's share of it.

Where one block's outcome tells of the next one's, the variance of a mean is not an outcome's over their number but
the spectral density at frequency zero over it. An autoregression estimates that (K. N. Berk, "Consistent
autoregressive spectral estimates", Annals of Statistics 2, 1974), fitted by the Levinson-Durbin recursion, its
order chosen by Akaike's criterion, which errs on the side of too much memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from trading.arrays import FloatArray

#: Nearer to 1 the coefficients' sum says that the mean itself wanders: the variance is then taken as of this sum.
LARGEST_SUM = 0.97


def autocovariances(values: FloatArray, most: int) -> FloatArray:
    """float64 [most + 1], of lags 0 to `most`; all are divided by the number of values."""
    centred = values - values.mean()
    n = len(values)
    return np.array([float(centred[lag:] @ centred[: n - lag]) / n for lag in range(most + 1)])


def largest_order(n: int) -> int:
    """Lags that are tried for `n` values: 10 log10(n), but no more than a tenth of them."""
    return max(0, min(int(10.0 * math.log10(max(n, 1))), n // 10))


def autoregressions(covariances: FloatArray) -> Iterator[tuple[float, float]]:
    """Of each order from 1 on: the innovations' variance and the coefficients' sum; ends where nothing is left to
    explain.

    Args:
        covariances: float64 [orders + 1], of lags 0 on; the first is above 0.
    """
    coefficients = np.zeros(0)
    innovation = float(covariances[0])
    for order in range(1, len(covariances)):
        reflection = (
            float(covariances[order]) - float(coefficients @ covariances[order - 1 : 0 : -1])
        ) / innovation
        coefficients = np.append(coefficients - reflection * coefficients[::-1], reflection)
        innovation *= 1.0 - reflection**2
        if innovation <= 0.0:
            return
        yield innovation, float(coefficients.sum())


def long_run_variance(values: FloatArray) -> float:
    """What n times the variance of the mean of n such values tends to; no less than their plain variance.

    Where outcomes swing back (negative autocorrelation) their mean is more certain than the plain variance says.
    That is not made use of: an estimate that is too small would raise false alarms.

    Args:
        values: float64 [n], one a block, in their order, finite; n is 1 or more.

    Returns:
        In the values' unit, squared; 0 where they are all alike.
    """
    covariances = autocovariances(values, largest_order(len(values)))
    plain, n = float(covariances[0]), len(values)
    if plain <= 0.0:
        return 0.0
    best, found = n * math.log(plain), plain
    for order, (innovation, whole) in enumerate(autoregressions(covariances), 1):
        criterion = n * math.log(innovation) + 2.0 * order
        if criterion < best:
            best, found = criterion, innovation / (1.0 - min(whole, LARGEST_SUM)) ** 2
    return max(found, plain)
