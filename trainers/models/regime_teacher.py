"""The teacher of regime detection: hidden states, told from what was known at each row and named by their moments.

A teacher is a set of Gaussian components, a transition matrix between them, and the regime that each belongs to.
A sticky hidden Markov model has a component a regime; a Dirichlet-process mixture has as many as the data ask for,
and transitions that do not depend on where they come from. Both are used through the forward filter only,
P(state at t | observations up to t) (Hamilton 1989; Rabiner 1989): the student never learns from the future.
"""

from __future__ import annotations

import math

import numpy as np
from msgspec import Struct
from numba import njit
from scipy.optimize import linear_sum_assignment

from trading.arrays import FloatArray, Int64Array
from trading.models.signature import REGIMES
from trainers.data.dataset import Dataset

N = len(REGIMES)
BULL, BEAR, SIDEWAYS = range(N)


class Teacher(Struct, frozen=True):
    """A regime model of `kind` "hmm" or "mixture", with K components.

    Attributes:
        means, variances: float64 [K, 2], of the observations.
        transitions: float64 [K, K], rows sum to 1.
        start: float64 [K].
        regime_of: int64 [K], index into REGIMES.
        log_likelihood: predictive, of held-out rows, a row.
    """

    kind: str
    means: FloatArray
    variances: FloatArray
    transitions: FloatArray
    start: FloatArray
    regime_of: Int64Array
    log_likelihood: float

    def filtered(self, observations: FloatArray, symbols: Int64Array) -> FloatArray:
        """Filtered probabilities of the regimes, float64 [n, 3], each symbol a sequence of its own."""
        components, _ = self.run(observations, symbols)
        return self.by_regime(components)

    def score(self, observations: FloatArray, symbols: Int64Array) -> float:
        """Mean predictive log likelihood of a row given those before it."""
        _, likelihood = self.run(observations, symbols)
        return float(likelihood.mean())

    def run(self, observations: FloatArray, symbols: Int64Array) -> tuple[FloatArray, FloatArray]:
        """Filtered probabilities of the components, [n, K], and predictive log likelihoods, [n]."""
        z = (observations[:, None, :] - self.means) ** 2 / self.variances
        log_density = -0.5 * (z + np.log(2.0 * math.pi * self.variances)).sum(axis=2)
        order = np.argsort(symbols, kind="stable")
        probabilities, likelihood = np.empty((len(symbols), len(self.means))), np.empty(len(symbols))
        probabilities[order], likelihood[order] = forward_filter(
            log_density[order], self.transitions, self.start, symbols[order]
        )
        return probabilities, likelihood

    def by_regime(self, components: FloatArray) -> FloatArray:
        """[n, K] added up to [n, 3]."""
        found = np.zeros((len(components), N))
        for k, regime in enumerate(self.regime_of.tolist()):
            found[:, regime] += components[:, k]
        return found

    @property
    def shares(self) -> FloatArray:
        """Long-run share of each component, float64 [K]: the stationary distribution."""
        values, vectors = np.linalg.eig(self.transitions.T)
        found: FloatArray = np.abs(np.real(vectors[:, np.argmin(np.abs(values - 1.0))]))
        return found / found.sum()

    @property
    def moments(self) -> tuple[FloatArray, FloatArray]:
        """Means and variances of the observations in each regime, float64 [3, 2]; NaN for an absent one."""
        means, variances, shares = np.full((N, 2), np.nan), np.full((N, 2), np.nan), self.shares
        for regime in range(N):
            mine = self.regime_of == regime
            if mine.any():
                weight = shares[mine] / max(shares[mine].sum(), 1e-300)
                means[regime] = weight @ self.means[mine]
                spread = self.variances[mine] + (self.means[mine] - means[regime]) ** 2
                variances[regime] = weight @ spread
        return means, variances

    @property
    def regime_transitions(self) -> FloatArray:
        """Between regimes, float64 [3, 3], in the long run; rows of an absent regime are zero."""
        flow = self.shares[:, None] * self.transitions
        found = np.zeros((N, N))
        for a in range(N):
            for b in range(N):
                found[a, b] = flow[np.ix_(self.regime_of == a, self.regime_of == b)].sum()
        total = found.sum(axis=1, keepdims=True)
        return np.divide(found, total, out=np.zeros_like(found), where=total > 0)

    @property
    def dwell(self) -> FloatArray:
        """Expected rows in each regime before it is left, float64 [3]: 1 / (1 - p)."""
        stay = np.diag(self.regime_transitions)
        found: FloatArray = 1.0 / np.maximum(1.0 - stay, 1e-12)
        return found


@njit(cache=True)
def forward_filter(
    log_density: FloatArray, transitions: FloatArray, start: FloatArray, symbols: Int64Array
) -> tuple[FloatArray, FloatArray]:
    """The scaled forward recursion; starts anew at each change of symbol.

    Returns:
        Filtered probabilities, float64 [n, K], and predictive log likelihoods, float64 [n].
    """
    n, k = log_density.shape
    out, likelihood = np.empty((n, k)), np.empty(n)
    for i in range(n):
        peak = log_density[i].max()
        total = 0.0
        for j in range(k):
            prior = start[j]
            if i > 0 and symbols[i] == symbols[i - 1]:
                prior = 0.0
                for m in range(k):
                    prior += out[i - 1, m] * transitions[m, j]
            # A state that was impossible once must stay possible.
            out[i, j] = prior * math.exp(log_density[i, j] - peak) + 1e-12
            total += out[i, j]
        likelihood[i] = math.log(total) + peak
        for j in range(k):
            out[i, j] /= total
    return out, likelihood


def observe(data: Dataset) -> FloatArray:
    """Observations, float64 [n, 2]."""
    volatility = np.maximum(data.column("range_14"), 1e-9)
    trend = np.clip(data.column("macd") / volatility, -10.0, 10.0)
    return np.column_stack([trend, np.log(volatility)])


def named_by_moments(means: FloatArray) -> Int64Array:
    """The regime of each of three components: bull has the highest mean trend, bear the lowest."""
    names = np.empty(len(means), np.int64)
    names[np.argsort(means[:, 0])] = [BEAR, SIDEWAYS, BULL]
    return names


def matched(means: FloatArray, variances: FloatArray, before: Teacher) -> Int64Array:
    """The regime of each of three components: that of the nearest one of the teacher before.

    All three are matched at once, at the least total Bhattacharyya distance (Hungarian method). Where that would
    call something bull whose trend is below bear's, the moments decide: a name must tell the truth.
    """
    old_means, old_variances = before.moments
    distance = np.nan_to_num(
        bhattacharyya(means[:, None], variances[:, None], old_means[None], old_variances[None]), nan=1e9
    )
    component, regime = linear_sum_assignment(distance)
    names = np.empty(N, np.int64)
    names[component] = regime
    trend = means[np.argsort(names), 0]
    return names if trend[BULL] > trend[BEAR] else named_by_moments(means)


def bhattacharyya(mean_a: FloatArray, var_a: FloatArray, mean_b: FloatArray, var_b: FloatArray) -> FloatArray:
    """Distance between Gaussians with diagonal covariance, over the last axis (Bhattacharyya 1943)."""
    middle = 0.5 * (var_a + var_b)
    apart = 0.125 * ((mean_a - mean_b) ** 2 / middle).sum(axis=-1)
    found: FloatArray = apart + 0.5 * np.log(middle / np.sqrt(var_a * var_b)).sum(axis=-1)
    return found
