"""Fitting teachers: a sticky Gaussian hidden Markov model, and a Dirichlet-process Gaussian mixture."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from hmmlearn.hmm import GaussianHMM
from msgspec.structs import replace
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import BayesianGaussianMixture

from trading.arrays import FloatArray, Int64Array
from trading.errors import ConfigurationError
from trainers.models.regime_teacher import BEAR, BULL, SIDEWAYS, N, Teacher, matched, named_by_moments

#: Prior mass on staying, as a share of the rows (Fox et al. 2011, the kappa of a sticky HMM).
STICKINESS = 0.02
STAY = 0.99
MAX_FIT_ROWS = 60_000
#: The last part of the training rows: not fitted on, so that kinds can be compared.
HELD_OUT = 0.2
MOST_COMPONENTS = 8
#: A component whose mean trend is nearer to zero than this share of its deviation is sideways.
SIDEWAYS_BAND = 0.25
MIN_VARIANCE = 1e-6


def fit(
    observations: FloatArray, symbols: Int64Array, seed: int, kind: str = "auto", before: Teacher | None = None
) -> Teacher:
    """Fit on the latest rows of a training set.

    Args:
        observations: float64 [n, 2], in order of arrival.
        symbols: int64 [n].
        seed: of the starting points.
        kind: hmm, mixture, or auto: whichever predicts the held-out rows better.
        before: the teacher of an earlier training; regimes keep its names where they can.

    Raises:
        ConfigurationError: the observations do not vary.
    """
    observations, symbols = observations[-MAX_FIT_ROWS:], symbols[-MAX_FIT_ROWS:]
    if (observations.std(axis=0) < 1e-9).any():
        raise ConfigurationError(
            "trend and volatility never change in the training rows: there are no regimes to tell apart"
        )
    cut = int(len(observations) * (1.0 - HELD_OUT))
    fits = {"hmm": fit_hmm, "mixture": fit_mixture}
    scores = {}
    for name in fits if kind == "auto" else (kind,):
        tried = fits[name](observations[:cut], symbols[:cut], seed, before)
        scores[name] = tried.score(observations[cut:], symbols[cut:])
    best = max(scores, key=lambda name: scores[name])
    return replace(fits[best](observations, symbols, seed, before), log_likelihood=scores[best])


def fit_hmm(observations: FloatArray, symbols: Int64Array, seed: int, before: Teacher | None) -> Teacher:
    """Three Gaussian states whose transitions have a prior that they stay."""
    order = np.argsort(symbols, kind="stable")
    lengths = np.unique(symbols, return_counts=True)[1]
    prior = np.ones((N, N)) + np.eye(N) * STICKINESS * len(observations)
    model = GaussianHMM(
        N, covariance_type="diag", n_iter=20, tol=1e-2 * len(observations) / 1e4, random_state=seed,
        init_params="mc", transmat_prior=prior,
    )  # fmt: skip
    model.startprob_ = np.full(N, 1.0 / N)
    model.transmat_ = np.full((N, N), (1.0 - STAY) / (N - 1)) + np.eye(N) * (STAY - (1.0 - STAY) / (N - 1))
    with quiet():
        model.fit(observations[order], lengths)
    means, variances = model.means_, np.maximum(model.covars_[:, [0, 1], [0, 1]], MIN_VARIANCE)
    names = named_by_moments(means) if before is None else matched(means, variances, before)
    states = np.argsort(names)  # in the order of REGIMES
    return Teacher(
        kind="hmm", means=means[states], variances=variances[states],
        transitions=model.transmat_[np.ix_(states, states)], start=np.full(N, 1.0 / N),
        regime_of=np.arange(N), log_likelihood=float("nan"),
    )  # fmt: skip


def fit_mixture(observations: FloatArray, symbols: Int64Array, seed: int, before: Teacher | None) -> Teacher:
    """A Bayesian mixture with a Dirichlet process over its components (Blei and Jordan 2006), named by moments.

    Components are many and come and go, so that they are not matched with those of `before`: what keeps their
    names stable is that a name is a function of the mean trend.
    """
    del symbols, before
    model = BayesianGaussianMixture(
        n_components=MOST_COMPONENTS, covariance_type="diag", max_iter=200, tol=1e-3, random_state=seed,
        weight_concentration_prior_type="dirichlet_process", weight_concentration_prior=1.0 / MOST_COMPONENTS,
        init_params="k-means++",
    )  # fmt: skip
    with quiet():
        model.fit(observations[:: max(1, len(observations) // 20_000)])
    # What a Dirichlet process has not used is near nothing.
    used = model.weights_ > 1e-3
    weights = model.weights_[used] / model.weights_[used].sum()
    means, variances = model.means_[used], np.maximum(model.covariances_[used], MIN_VARIANCE)
    names = np.full(len(means), SIDEWAYS, np.int64)
    band = SIDEWAYS_BAND * float(observations[:, 0].std())
    names[means[:, 0] > band], names[means[:, 0] < -band] = BULL, BEAR
    # Each regime has a component, or its student could never be taught.
    names[np.argmax(means[:, 0])], names[np.argmin(means[:, 0])] = BULL, BEAR
    return Teacher(
        kind="mixture", means=means, variances=variances, transitions=np.tile(weights, (len(weights), 1)),
        start=weights, regime_of=names, log_likelihood=float("nan"),
    )  # fmt: skip


@contextmanager
def quiet() -> Iterator[None]:
    """Not converging within the iterations is no error here: held-out rows judge a fit."""
    logger = logging.getLogger("hmmlearn")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            yield
    finally:
        logger.setLevel(level)
