"""Out-of-sample figures, costs counted, beside the baselines that a model must beat."""

from __future__ import annotations

import math

import numpy as np
from msgspec import Struct

from gateway.domain.schemas import FloatArray, Int64Array
from gateway.domain.signature import STRATEGIES
from trainers.labels import Labels

BASIS_POINTS = 1e4


class NetResult(Struct, frozen=True):
    """Of a position path: mean net gain a tick in basis points of a full position, its t-statistic over
    event times, and the mean abs change of position a tick.
    """

    mean: float
    t_statistic: float
    turnover: float


class NetPath(Struct, frozen=True):
    """For n rows in arrival order: net gains in basis points, abs changes of position."""

    gains: FloatArray
    changes: FloatArray


def information_coefficient(signal: FloatArray, forward: FloatArray) -> float:
    """Pearson correlation; 0 for a constant signal."""
    if signal.std() < 1e-12 or forward.std() < 1e-12:
        return 0.0
    return float(np.corrcoef(signal, forward)[0, 1])


def net_path(position: FloatArray, symbols: Int64Array, labels: Labels, rows: Int64Array) -> NetPath:
    """Gain of holding to the next tick, minus half the spread on each change of position.

    The change is from the same symbol's previous row; the first row pays for its whole position.
    Returns and spreads are as they were, not clipped as they are for training.
    """
    order = np.argsort(symbols[rows], kind="stable")
    sorted_position, sorted_symbols = position[order], symbols[rows][order]
    previous = np.concatenate([[0.0], sorted_position[:-1]])
    previous[np.concatenate([[True], sorted_symbols[1:] != sorted_symbols[:-1]])] = 0.0
    changes = np.empty(len(rows))
    changes[order] = np.abs(sorted_position - previous)
    gains = position * labels.next_log_return[rows] - changes * labels.half_spread[rows]
    return NetPath(gains * BASIS_POINTS, changes)


def summarise(path: NetPath, time_ns: Int64Array) -> NetResult:
    """Mean, t-statistic and turnover.

    Gains of one event time are added up before the t-statistic is taken: twenty stocks of one day
    are not twenty independent observations.
    """
    _, which = np.unique(time_ns, return_inverse=True)
    by_time = np.bincount(which, weights=path.gains)
    deviation = float(by_time.std())
    t = float(by_time.mean()) / deviation * math.sqrt(len(by_time)) if deviation > 1e-12 else 0.0
    return NetResult(float(path.gains.mean()), t, float(path.changes.mean()))


def baselines(signals: FloatArray) -> dict[str, FloatArray]:
    """Position paths to compare with: equal weights, each strategy alone, buy and hold."""
    paths = {"equal_weights": signals.mean(axis=1), "buy_and_hold": np.ones(len(signals))}
    paths.update({name: signals[:, k] for k, name in enumerate(STRATEGIES)})
    return paths
