"""A model's answer, and what makes a row of it usable."""

from __future__ import annotations

import numpy as np
from msgspec import Struct
from numba import njit

from trading.arrays import BoolArray, Float32Array, FloatArray


class Prediction(Struct, frozen=True):
    """The model's answer for n rows; where `valid` is False the row's values must not be used.

    Attributes:
        regime_probabilities: float32 [n, 3].
        strategy_signals, strategy_weights: float32 [n, 4].
        target_position: float64 [n].
        valid: bool [n].
        model_version: which answered.
    """

    regime_probabilities: Float32Array
    strategy_signals: Float32Array
    strategy_weights: Float32Array
    target_position: FloatArray
    valid: BoolArray
    model_version: str


@njit(cache=True, nogil=True)
def usable_rows(
    regimes: Float32Array, signals: Float32Array, weights: Float32Array, targets: Float32Array, tolerance: float
) -> BoolArray:
    """Rows that may be used: finite, probabilities and weights summing to 1, signals and target within 1."""
    n = len(targets)
    usable = np.empty(n, np.bool_)
    for i in range(n):
        total, share, good = 0.0, 0.0, True
        for k in range(regimes.shape[1]):
            total += regimes[i, k]
            good &= regimes[i, k] >= -tolerance
        for k in range(weights.shape[1]):
            share += weights[i, k]
            good &= weights[i, k] >= -tolerance
        for k in range(signals.shape[1]):
            good &= abs(signals[i, k]) <= 1.0 + tolerance
        # NaN and infinities compare false.
        good &= abs(total - 1.0) <= tolerance and abs(share - 1.0) <= tolerance
        usable[i] = good and abs(targets[i, 0]) <= 1.0 + tolerance
    return usable
