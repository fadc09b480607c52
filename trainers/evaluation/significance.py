"""Whether a figure may be luck: of one path, and of the best of many."""

from __future__ import annotations

import math
from itertools import combinations
from statistics import NormalDist

import numpy as np
from msgspec import Struct
from numba import njit

from trading.arrays import FloatArray
from trainers.evaluation.metrics import sharpe

EULER = 0.5772156649015329
NORMAL = NormalDist()
BLOCKS = 10
RESAMPLES = 2_000


class Interval(Struct, frozen=True):
    """Bounds of a confidence interval."""

    low: float
    high: float
    level: float


def probabilistic_sharpe(returns: FloatArray, benchmark: float) -> float:
    """P(true Sharpe ratio > benchmark), both a period (Bailey and Lopez de Prado 2012).

    Counts skewness and kurtosis, which the usual error of a Sharpe ratio leaves out. 0 for constant returns.
    """
    n, deviation = len(returns), float(returns.std())
    if n < 3 or deviation <= 1e-15:
        return 0.0
    z = (returns - returns.mean()) / deviation
    ratio, skew, kurtosis = sharpe(returns), float(np.mean(z**3)), float(np.mean(z**4))
    variance = 1.0 - skew * ratio + (kurtosis - 1.0) / 4.0 * ratio**2
    return NORMAL.cdf((ratio - benchmark) * math.sqrt(n - 1) / math.sqrt(max(variance, 1e-12)))


def expected_best(trials: int, deviation: float) -> float:
    """Expected highest Sharpe ratio of `trials` that are worth nothing and deviate so much (the false strategy
    theorem of Bailey and Lopez de Prado 2014).
    """
    if trials < 2:
        return 0.0
    first, second = NORMAL.inv_cdf(1.0 - 1.0 / trials), NORMAL.inv_cdf(1.0 - 1.0 / (trials * math.e))
    return deviation * ((1.0 - EULER) * first + EULER * second)


def deflated_sharpe(returns: FloatArray, trials: int) -> float:
    """P(true Sharpe ratio > 0) of one that was chosen among many (Bailey and Lopez de Prado 2014).

    They take the deviation of the ratios that were tried. Ours differ most in the costs that they pay, which is no
    luck; what luck makes of a worthless one is its sampling error, 1 / sqrt(n - 1) (Lo 2002), and that is taken.

    Args:
        returns: float64 [n], of the one.
        trials: how many were tried, this one among them.
    """
    return probabilistic_sharpe(returns, expected_best(trials, 1.0 / math.sqrt(max(1, len(returns) - 1))))


def overfitting_probability(returns: FloatArray, blocks: int = BLOCKS) -> float:
    """Probability of backtest overfitting, by combinatorially symmetric cross-validation (Bailey et al. 2017).

    The share of splits of the periods in two halves in which what was best in one half is below the median in the
    other.

    Args:
        returns: float64 [n, m], of m ways to trade.
        blocks: of time, even; halves are made of whole blocks.

    Returns:
        In [0, 1]; NaN where there are fewer than two ways, or too few periods.
    """
    n, m = returns.shape
    if m < 2 or n < 2 * blocks:
        return math.nan
    parts = np.array_split(np.arange(n), blocks)
    below = total = 0
    for chosen in combinations(range(blocks), blocks // 2):
        inside = np.concatenate([parts[k] for k in chosen])
        outside = np.concatenate([parts[k] for k in range(blocks) if k not in chosen])
        best = int(np.argmax(column_sharpes(returns[inside])))
        scores = column_sharpes(returns[outside])
        # Ties count half: among equals there is nothing to choose.
        rank = float((scores < scores[best]).sum()) + 0.5 * float((scores == scores[best]).sum() + 1)
        below += rank / (m + 1) <= 0.5
        total += 1
    return below / total


def column_sharpes(returns: FloatArray) -> FloatArray:
    """Sharpe ratio of each column; 0 for a constant one."""
    deviation = returns.std(axis=0)
    found: FloatArray = np.divide(
        returns.mean(axis=0), deviation, out=np.zeros(returns.shape[1]), where=deviation > 1e-15
    )
    return found


def mean_interval(returns: FloatArray, level: float = 0.95, seed: int = 0, block: float | None = None) -> Interval:
    """Confidence interval of the mean, by the stationary bootstrap (Politis and Romano 1994), which keeps what
    follows one another together.

    Args:
        returns: float64 [n].
        level: of confidence.
        seed: of the resampling.
        block: mean length of a block; default: n^(1/3), at least 2.
    """
    n = len(returns)
    length = block or max(2.0, n ** (1.0 / 3.0))
    means = resampled_means(returns, RESAMPLES, 1.0 / length, seed)
    low, high = np.quantile(means, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return Interval(float(low), float(high), level)


@njit(cache=True)
def resampled_means(returns: FloatArray, resamples: int, restart: float, seed: int) -> FloatArray:
    """Means of stationary-bootstrap resamples: at each step a block ends with probability `restart`."""
    np.random.seed(seed)  # noqa: NPY002 - numba's own generator
    n = len(returns)
    means = np.empty(resamples)
    for k in range(resamples):
        at, total = np.random.randint(n), 0.0  # noqa: NPY002
        for _ in range(n):
            total += returns[at]
            at = np.random.randint(n) if np.random.random() < restart else (at + 1) % n  # noqa: NPY002
        means[k] = total / n
    return means
