"""What a meta-controller must beat, each known before the test rows begin."""

from __future__ import annotations

import numpy as np
from numba import njit

from trading.arrays import FloatArray, Int64Array
from trading.models.signature import STRATEGIES

#: The hysteresis rule: go with the mean signal beyond ENTER, leave below LEAVE, both in its training deviations.
ENTER, LEAVE = 1.0, 0.25
META = "meta_controller"
NAMES = ("equal_weights", "best_single", "buy_and_hold", "hysteresis")


def targets(signals: FloatArray, symbols: Int64Array, best: int, scale: float) -> dict[str, FloatArray]:
    """Target paths of n rows, by name; each strategy alone too.

    Args:
        signals: float64 [n, 7].
        symbols: int64 [n].
        best: the strategy that did best, net of costs, on the training rows.
        scale: deviation of the mean signal on the training rows.
    """
    mean = signals.mean(axis=1)
    found = {
        "equal_weights": mean,
        "best_single": signals[:, best],
        "buy_and_hold": np.ones(len(signals)),
        "hysteresis": hysteresis(mean / max(scale, 1e-12), symbols, ENTER, LEAVE),
    }
    found.update({name: signals[:, k] for k, name in enumerate(STRATEGIES)})
    return found


@njit(cache=True)
def hysteresis(signal: FloatArray, symbols: Int64Array, enter: float, leave: float) -> FloatArray:
    """1, -1 or 0 for each row: a position is taken beyond `enter` and kept until the signal is below `leave`."""
    held = np.zeros(symbols.max() + 1)
    out = np.empty(len(signal))
    for i in range(len(signal)):
        now = held[symbols[i]]
        if now * signal[i] < leave:
            now = 0.0
        if signal[i] >= enter:
            now = 1.0
        elif signal[i] <= -enter:
            now = -1.0
        held[symbols[i]] = now
        out[i] = now
    return out
