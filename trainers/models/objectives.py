"""What each model is trained to do."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from msgspec import Struct
from torch import Tensor

from trading.arrays import Float32Array, FloatArray, Int64Array
from trading.features.definitions import FEATURES
from trading.models.signature import STRATEGIES
from trainers.models.nets import MetaController, RegimeDetection, StrategySignals

#: Risk aversion: the best signal for an expected return of g deviations is g / AVERSION.
AVERSION = 0.25
#: Consecutive rows of a symbol that changes are counted over.
WINDOW = 32
#: Returns beyond this many deviations teach no more than this.
CLIP = 5.0


class MetaSettings(Struct, frozen=True):
    """Of the meta-controller's utility.

    Attributes:
        entropy_bonus: for weights that are spread over the strategies.
        turnover_penalty: of each unit of change, as a multiple of its cost, on top of it.
        disruption_penalty: of the squared jump of the target that new regime probabilities alone cause.
        smoothness: of the regimes' student: penalty of squared change of probabilities from row to row.
    """

    entropy_bonus: float = 0.002
    turnover_penalty: float = 0.25
    disruption_penalty: float = 20.0
    smoothness: float = 2.0


class Rows:
    """Features of a set's rows, [k, 32] on the device, from arrays in memory or mapped from disk."""

    def __init__(self, features: Float32Array, index: Int64Array, where: torch.device) -> None:
        self._features, self._index, self._where = features, index, where
        self._held = None if isinstance(features, np.memmap) else torch.from_numpy(features[index]).to(where)

    def __call__(self, rows: Tensor) -> Tensor:
        """[k, 32] of the set's rows at these places."""
        if self._held is not None:
            return self._held[rows.to(self._where)]
        return torch.from_numpy(np.asarray(self._features[self._index[rows.cpu().numpy()]])).to(self._where)

    def __len__(self) -> int:
        return len(self._index)

    def sample(self, most: int = 500_000) -> Tensor:
        """Rows evenly apart: what a network standardises by."""
        places = np.unique(np.linspace(0, len(self._index) - 1, min(most, len(self._index))).astype(np.int64))
        return self(torch.from_numpy(places))


class TrainingSet(Struct, frozen=True):
    """n rows on the device.

    Attributes:
        features: gives [k, 32].
        forward: [n], return to the label's end, in deviations, clipped.
        side: [n], 1, 0, -1: which barrier was met.
        next_return: [n], return to the symbol's next row, in deviations of the horizon's return, clipped.
        cost: [n], of a unit change of position, in the same unit, clipped.
        weight: [n], uniqueness of the label, mean 1.
        teacher: [n, 3], filtered probabilities.
        windows: [w, WINDOW], rows of one symbol that follow one another.
    """

    features: Rows
    forward: Tensor
    side: Tensor
    next_return: Tensor
    cost: Tensor
    weight: Tensor
    teacher: Tensor
    windows: Tensor

    def __len__(self) -> int:
        return len(self.forward)


def regime_loss(module: RegimeDetection, data: TrainingSet, smoothness: float) -> Callable[[Tensor], Tensor]:
    """Cross-entropy against the teacher's filtered probabilities, over windows; sudden changes cost extra."""

    def loss(windows: Tensor) -> Tensor:
        rows = data.windows[windows].reshape(-1)
        logits = module.logits(data.features(rows))
        entropy = torch.nn.functional.cross_entropy(logits, data.teacher[rows])
        probabilities = torch.softmax(logits, dim=1).reshape(len(windows), WINDOW, -1)
        jumps = (probabilities[:, 1:] - probabilities[:, :-1]).square().sum(dim=2).mean()
        return entropy + smoothness * jumps

    return loss


def signal_loss(module: StrategySignals, data: TrainingSet) -> Callable[[Tensor], Tensor]:
    """The sum of the specialists' own losses, each over the rows that are its business.

    momentum: mean-variance utility of the label's return. mean_reversion: the same of the next return, where the
    price is far from its average. breakout: likelihood of the barrier that was met. volatility_carry: expected
    growth, to second order (Kelly 1956). The regime experts: mean-variance utility, each row weighted by the
    teacher's probability of their regime.
    """
    stretched = FEATURES.index("bollinger_position")

    def loss(rows: Tensor) -> Tensor:
        features = data.features(rows)
        signals = dict(zip(STRATEGIES, module(features).unbind(dim=1), strict=True))
        weight, forward, side = data.weight[rows], data.forward[rows], data.side[rows]
        far = (features[:, stretched].abs() > 0.5).float() + 0.05
        regime = data.teacher[rows] + 0.02
        losses = [
            utility(signals["momentum"], forward, weight),
            utility(signals["mean_reversion"], data.next_return[rows], weight * far),
            barrier_loss(signals["breakout"], side, weight),
            -(weight * (signals["volatility_carry"] * forward
                        - 0.5 * AVERSION * (signals["volatility_carry"] * forward).square())).mean(),
            utility(signals["bull_expert"], forward, weight * regime[:, 0]),
            utility(signals["bear_expert"], forward, weight * regime[:, 1]),
            utility(signals["sideways_expert"], forward, weight * regime[:, 2]),
        ]  # fmt: skip
        return torch.stack(losses).sum()

    return loss


def utility(signal: Tensor, gain: Tensor, weight: Tensor) -> Tensor:
    """Minus the weighted mean-variance utility of holding the signal: a mean over rows, so that parts add up."""
    return -(weight * (signal * gain - 0.5 * AVERSION * signal.square())).mean()


def barrier_loss(signal: Tensor, side: Tensor, weight: Tensor) -> Tensor:
    """Cross-entropy of P(up) = (1 + signal) / 2 against the barrier that was met; none met counts as a half."""
    up = ((1.0 + signal) / 2.0).clamp(1e-6, 1.0 - 1e-6)
    target = (1.0 + side) / 2.0
    entropy = -(target * up.log() + (1.0 - target) * (1.0 - up).log())
    return (weight * entropy).mean()


def meta_loss(
    module: MetaController, data: TrainingSet, regimes: Tensor, signals: Tensor, settings: MetaSettings
) -> Callable[[Tensor], Tensor]:
    """Minus the utility net of costs over windows: gain, less costs of change, less half the aversion times risk.

    `regimes` [n, 3] and `signals` [n, 7] are the other two models' answers. Costs are those of the row at which
    the position changes: spread, fee and slippage.
    """

    def jumps(target: Tensor, features: Tensor, seen: Tensor, told: Tensor) -> Tensor:
        """Mean squared change of a target when its regimes were those of the row before."""
        before = seen.reshape(-1, WINDOW, seen.shape[1]).roll(1, dims=1).reshape(seen.shape)
        _, old = module(features, before, told)
        return (target - old).reshape(-1, WINDOW)[:, 1:].square().mean()

    def loss(windows: Tensor) -> Tensor:
        rows = data.windows[windows].reshape(-1)
        features = data.features(rows)
        weights, target = module(features, regimes[rows], signals[rows])
        position = target.reshape(-1, WINDOW)
        gain = position * data.next_return[rows].reshape(-1, WINDOW)
        change = (position[:, 1:] - position[:, :-1]).abs()
        turnover = change * data.cost[rows].reshape(-1, WINDOW)[:, 1:] * (1.0 + settings.turnover_penalty)
        entropy = -(weights * (weights + 1e-9).log()).sum(dim=1).mean()
        jump = jumps(target, features, regimes[rows], signals[rows])
        risk = 0.5 * AVERSION * gain.square()
        useful = gain.mean() - turnover.mean() - risk.mean() + settings.entropy_bonus * entropy
        return settings.disruption_penalty * jump - useful

    return loss


def consecutive(symbols: Int64Array) -> Int64Array:
    """Windows [w, WINDOW] of rows of one symbol that follow one another, without overlap."""
    order = np.argsort(symbols, kind="stable")
    found = [
        rows[: len(rows) // WINDOW * WINDOW].reshape(-1, WINDOW)
        for rows in np.split(order, np.flatnonzero(np.diff(symbols[order])) + 1)
    ]
    return np.concatenate(found)


def in_deviations(values: FloatArray, deviation: FloatArray) -> Float32Array:
    """Values / deviation, clipped to CLIP, float32; 0 where there is no deviation."""
    scaled = np.divide(values, deviation, out=np.zeros_like(values), where=deviation > 1e-12)
    return np.clip(scaled, -CLIP, CLIP).astype(np.float32)
