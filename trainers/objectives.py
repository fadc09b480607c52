"""What each model is trained to do."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from msgspec import Struct
from torch import Tensor

from gateway.domain.signature import STRATEGIES
from trainers.nets import MetaController, RegimeDetection, StrategySignals

#: Risk aversion: the best signal for an expected return of g standard deviations is g / AVERSION.
AVERSION = 0.25
ENTROPY_BONUS = 0.01
#: Rows of a symbol that the meta-controller's turnover is counted over.
WINDOW = 32


class Tensors(Struct, frozen=True):
    """A training set on the device: features [n, 32], forward, next_return and cost [n]."""

    features: Tensor
    forward: Tensor
    next_return: Tensor
    cost: Tensor


def regime_loss(module: RegimeDetection, data: Tensors, teacher: Tensor) -> Callable[[Tensor], Tensor]:
    """Cross-entropy against the teacher's filtered probabilities [n, 3]."""

    def loss(rows: Tensor) -> Tensor:
        logits = module.logits(data.features[rows])
        return torch.nn.functional.cross_entropy(logits, teacher[rows])

    return loss


def specialist_weights(features: Tensor, columns: dict[str, int]) -> Tensor:
    """Which rows teach which specialist, [n, 4]: each is an expert of a situation of its own."""
    moved = features[:, columns["return_zscore"]].abs()
    stretched = features[:, columns["bollinger_position"]].abs()
    near_high = features[:, columns["drawdown_20d"]]
    volatility = features[:, columns["volatility_20d"]]
    situation = {
        "momentum": torch.ones_like(moved),
        "mean_reversion": (stretched > 0.5).float() + 0.1,
        "breakout": ((near_high >= float(np.quantile(near_high.cpu().numpy(), 0.8))) | (moved > 1.0)).float() + 0.1,
        "volatility_carry": (volatility > volatility.median()).float() + 0.1,
    }
    weights = torch.stack([situation[name] for name in STRATEGIES], dim=1)
    return weights / weights.mean(dim=0)


def signal_loss(module: StrategySignals, data: Tensors, weights: Tensor) -> Callable[[Tensor], Tensor]:
    """Mean-variance utility of each signal against the return over the horizon, in its situation."""

    def loss(rows: Tensor) -> Tensor:
        signals = module(data.features[rows])
        utility = signals * data.forward[rows, None] - 0.5 * AVERSION * signals**2
        return -(utility * weights[rows]).mean()

    return loss


def meta_loss(
    module: MetaController, data: Tensors, regimes: Tensor, signals: Tensor, starts: Tensor, scale: float
) -> Callable[[Tensor], Tensor]:
    """Utility net of costs over windows of consecutive ticks of one symbol.

    `starts` [w, WINDOW] are rows; costs are paid on abs(change of position) between ticks, and
    `scale` brings gains and costs of a tick to the size of the horizon's returns.
    """

    def loss(windows: Tensor) -> Tensor:
        rows = starts[windows].reshape(-1)
        weights, target = module(data.features[rows], regimes[rows], signals[rows])
        position = target.reshape(-1, WINDOW)
        gain = position * data.next_return[rows].reshape(-1, WINDOW) * scale
        change = (position[:, 1:] - position[:, :-1]).abs()
        turnover = change * data.cost[rows].reshape(-1, WINDOW)[:, 1:] * scale
        entropy = -(weights * (weights + 1e-9).log()).sum(dim=1).mean()
        risk = 0.5 * AVERSION * position**2
        return -(gain.mean() - turnover.mean() - risk.mean() + ENTROPY_BONUS * entropy)

    return loss
