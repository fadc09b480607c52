"""A model's answer, and what makes a row of it usable."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from msgspec import Struct

from trading.arrays import BoolArray, Float32Array, FloatArray
from trading.compiled import entry


class Prediction(Struct, frozen=True):
    """The model's answer for n rows; where `valid` is False the row's values must not be used.

    Attributes:
        regime_probabilities: float32 [n, 3].
        strategy_signals, strategy_weights: float32 [n, 7].
        target_position: float64 [n], in [-1, 1].
        valid: bool [n].
        model_version: which version answered.
    """

    regime_probabilities: Float32Array
    strategy_signals: Float32Array
    strategy_weights: Float32Array
    target_position: FloatArray
    valid: BoolArray
    model_version: str


#: How far an answer may be off what it must be: single precision, and sums over a few of it.
TOLERANCE = 1e-3


def to_prediction(outputs: Sequence[Float32Array], model_version: str) -> Prediction:
    """Mark the rows that may be used, and bring the target into its bounds.

    Args:
        outputs: regime probabilities, signals, weights and target, float32 [n, .] each.
        model_version: which answered.
    """
    regimes, signals, weights, target = outputs
    valid = usable_rows(regimes, signals, weights, target, TOLERANCE)
    bounded = np.clip(target[:, 0].astype(np.float64), -1.0, 1.0)
    return Prediction(regimes, signals, weights, bounded, valid, model_version)


@entry
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
