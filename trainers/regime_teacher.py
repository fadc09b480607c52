"""The teacher of regime detection: a hidden Markov model, used through its filter only.

Observations are dimensionless: trend = MACD / range, and ln range. The filter gives
P(state at t | observations up to t), so that the student never learns from the future.
Source: Hamilton (1989), the forward recursion of Rabiner (1989).
"""

from __future__ import annotations

import math

import numpy as np
from hmmlearn.hmm import GaussianHMM
from msgspec import Struct
from numba import njit

from gateway.domain.schemas import FloatArray, Int64Array
from gateway.domain.signature import REGIMES
from trainers.dataset import Dataset

N = len(REGIMES)
STAY = 0.99
MAX_FIT_ROWS = 60_000


class Teacher(Struct, frozen=True):
    """A Gaussian hidden Markov model whose states are in the order of REGIMES.

    Attributes:
        means, variances: float64 [3, 2] of the observations.
        transitions: float64 [3, 3].
        log_likelihood: of the fit, a row.
    """

    means: FloatArray
    variances: FloatArray
    transitions: FloatArray
    log_likelihood: float

    def filtered(self, observations: FloatArray, symbols: Int64Array) -> FloatArray:
        """Filtered probabilities, float64 [n, 3], each symbol a sequence of its own."""
        z = (observations[:, None, :] - self.means) ** 2 / self.variances
        log_density = -0.5 * (z + np.log(2.0 * math.pi * self.variances)).sum(axis=2)
        order = np.argsort(symbols, kind="stable")
        probabilities = np.empty((len(symbols), N))
        probabilities[order] = forward_filter(log_density[order], self.transitions, symbols[order])
        return probabilities


@njit(cache=True)
def forward_filter(log_density: FloatArray, transitions: FloatArray, symbols: Int64Array) -> FloatArray:
    """The scaled forward recursion; starts anew, uniformly, at each change of symbol."""
    n, k = log_density.shape
    out = np.empty((n, k))
    for i in range(n):
        peak = log_density[i].max()
        total = 0.0
        for j in range(k):
            prior = 1.0 / k
            if i > 0 and symbols[i] == symbols[i - 1]:
                prior = 0.0
                for m in range(k):
                    prior += out[i - 1, m] * transitions[m, j]
            out[i, j] = prior * math.exp(log_density[i, j] - peak) + 1e-12
            total += out[i, j]
        for j in range(k):
            out[i, j] /= total
    return out


def observe(data: Dataset) -> FloatArray:
    """Observations, float64 [n, 2]."""
    volatility = np.maximum(data.column("range_14"), 1e-9)
    trend = np.clip(data.column("macd") / volatility, -10.0, 10.0)
    return np.column_stack([trend, np.log(volatility)])


def fit(observations: FloatArray, symbols: Int64Array, seed: int) -> Teacher:
    """Fit on the latest rows of a training set; states are named by their mean trend."""
    order = np.argsort(symbols[-MAX_FIT_ROWS:], kind="stable")
    rows = observations[-MAX_FIT_ROWS:][order]
    lengths = np.unique(symbols[-MAX_FIT_ROWS:], return_counts=True)[1]
    model = GaussianHMM(N, covariance_type="diag", n_iter=15, tol=1e-3, random_state=seed, init_params="mc")
    model.startprob_ = np.full(N, 1.0 / N)
    model.transmat_ = np.full((N, N), (1.0 - STAY) / (N - 1)) + np.eye(N) * (STAY - (1.0 - STAY) / (N - 1))
    model.fit(rows, lengths)
    by_trend = np.argsort(model.means_[:, 0])
    # REGIMES: bull, bear, sideways = highest, lowest, middle mean trend.
    states = np.array([by_trend[2], by_trend[0], by_trend[1]])
    return Teacher(
        means=model.means_[states],
        variances=np.maximum(model.covars_[states][:, [0, 1], [0, 1]], 1e-6),
        transitions=model.transmat_[np.ix_(states, states)],
        log_likelihood=float(model.score(rows, lengths)) / len(rows),
    )
