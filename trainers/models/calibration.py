"""Whether probabilities mean what they say."""

from __future__ import annotations

import math

import numpy as np
from msgspec import Struct
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

from trading.arrays import FloatArray

BINS = 10
#: Bounds of a temperature: beyond them probabilities would not be calibrated but made.
COLDEST, HOTTEST = 0.2, 5.0


class Curve(Struct, frozen=True):
    """For bins of predicted probability: float64 [BINS] mean predicted, mean true, and shares of all predictions.

    Attributes:
        predicted, observed, share: NaN where a bin is empty.
        error: expected calibration error, the mean gap weighted by share.
    """

    predicted: FloatArray
    observed: FloatArray
    share: FloatArray
    error: float


def curve(probabilities: FloatArray, truth: FloatArray) -> Curve:
    """Reliability of probabilities [n, k] against true ones, [n, k], all classes together (Guo et al. 2017)."""
    p, t = probabilities.ravel(), truth.ravel()
    which = np.clip((p * BINS).astype(np.int64), 0, BINS - 1)
    count = np.bincount(which, minlength=BINS).astype(np.float64)
    with np.errstate(invalid="ignore"):
        predicted = np.bincount(which, p, BINS) / count
        observed = np.bincount(which, t, BINS) / count
    share = count / len(p)
    return Curve(predicted, observed, share, float(np.nansum(share * np.abs(predicted - observed))))


def temperature(logits: FloatArray, truth: FloatArray) -> float:
    """The temperature that divides logits [n, k] to the least cross-entropy against [n, k] (Guo et al. 2017)."""

    def entropy(log_temperature: float) -> float:
        scaled = logits * math.exp(-log_temperature)
        return float((logsumexp(scaled, axis=1) - (truth * scaled).sum(axis=1)).mean())

    found = minimize_scalar(entropy, bounds=(math.log(COLDEST), math.log(HOTTEST)), method="bounded")
    return math.exp(found.x)
