"""Out-of-sample figures, costs counted, beside the baselines that a model must beat."""

from __future__ import annotations

import math

import numpy as np
from msgspec import Struct

from gateway.domain.schemas import FloatArray, Int64Array
from gateway.domain.signature import STRATEGIES
from trainers.labels import Labels


class NetResult(Struct, frozen=True):
    """Of a position path, in units of tick volatility: mean net gain, its t-statistic, turnover."""

    mean: float
    t_statistic: float
    turnover: float


def information_coefficient(signal: FloatArray, forward: FloatArray) -> float:
    """Pearson correlation; 0 for a constant signal."""
    if signal.std() < 1e-12 or forward.std() < 1e-12:
        return 0.0
    return float(np.corrcoef(signal, forward)[0, 1])


def net_gains(position: FloatArray, symbols: Int64Array, labels: Labels, rows: Int64Array) -> FloatArray:
    """Gain of holding to the next tick, minus cost of the change, [n] in arrival order.

    The change is from the same symbol's previous row; the first row pays for its whole position.
    """
    order = np.argsort(symbols[rows], kind="stable")
    sorted_position, sorted_symbols = position[order], symbols[rows][order]
    previous = np.concatenate([[0.0], sorted_position[:-1]])
    previous[np.concatenate([[True], sorted_symbols[1:] != sorted_symbols[:-1]])] = 0.0
    gains = np.empty(len(rows))
    cost = labels.cost[rows][order]
    gains[order] = sorted_position * labels.next_return[rows][order] - np.abs(sorted_position - previous) * cost
    return gains


def summarise(gains: FloatArray, position: FloatArray) -> NetResult:
    """Mean, t-statistic (ticks taken as independent) and mean abs position change."""
    deviation = float(gains.std())
    t = float(gains.mean()) / deviation * math.sqrt(len(gains)) if deviation > 1e-12 else 0.0
    return NetResult(float(gains.mean()), t, float(np.abs(np.diff(position)).mean()))


def baselines(signals: FloatArray) -> dict[str, FloatArray]:
    """Position paths to compare with: equal weights, each strategy alone, buy and hold."""
    paths = {"equal_weights": signals.mean(axis=1), "buy_and_hold": np.ones(len(signals))}
    paths.update({name: signals[:, k] for k, name in enumerate(STRATEGIES)})
    return paths
