"""The three networks. Each standardises its own input, so that the exported file is complete."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gateway.domain.features import FEATURES
from gateway.domain.signature import REGIMES, STRATEGIES

#: Standardised features beyond this are cut: one absurd tick must not saturate the network.
CUT = 8.0

#: What each specialist may look at.
VIEWS: dict[str, tuple[str, ...]] = {
    "momentum": (
        *(f for f in FEATURES if f.startswith("return_") and f != "return_zscore"),
        "macd",
        "macd_histogram",
        "range_14",
    ),
    "mean_reversion": (
        "bollinger_position",
        "rsi_14",
        "return_zscore",
        "return_1s",
        "spread_zscore",
        "size_imbalance",
        "microprice_deviation_bps",
    ),
    "breakout": (
        "drawdown_10m",
        "drawdown_20d",
        "bollinger_position",
        "range_14",
        "trade_flow_10s",
        "trade_flow_10m",
        "tick_rate",
    ),
    "volatility_carry": (
        *(f for f in FEATURES if f.startswith("volatility_")),
        "range_14",
        "spread_bps",
        "drawdown_20d",
        "time_of_day_sin",
        "time_of_day_cos",
    ),
}


class Standardise(nn.Module):
    """(x - mean) / deviation, cut at 8; constant features become 0."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, features: Tensor) -> None:
        super().__init__()
        deviation = features.std(dim=0)
        self.register_buffer("mean", features.mean(dim=0))
        self.register_buffer("deviation", torch.where(deviation > 1e-9, deviation, torch.inf))

    def forward(self, features: Tensor) -> Tensor:
        """[n, 32] to [n, 32]."""
        return ((features - self.mean) / self.deviation).clamp(-CUT, CUT)


def layers(width: int, hidden: int, out: int) -> nn.Sequential:
    """Two tanh layers and a linear one."""
    return nn.Sequential(
        nn.Linear(width, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh(), nn.Linear(hidden, out)
    )


class RegimeDetection(nn.Module):
    """features [n, 32] to regime_probabilities [n, 3]."""

    def __init__(self, sample: Tensor) -> None:
        super().__init__()
        self.standardise = Standardise(sample)
        self.layers = layers(len(FEATURES), 48, len(REGIMES))

    def logits(self, features: Tensor) -> Tensor:
        """Before the softmax, for the loss."""
        out: Tensor = self.layers(self.standardise(features))
        return out

    def forward(self, features: Tensor) -> Tensor:
        """Probabilities of bull, bear, sideways."""
        return torch.softmax(self.layers(self.standardise(features)), dim=1)


class Specialist(nn.Module):
    """One strategy: its view of the features to a signal in [-1, 1]."""

    view: Tensor

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__()
        self.register_buffer("view", torch.tensor([FEATURES.index(n) for n in names]))
        self.layers = layers(len(names), 16, 1)

    def forward(self, features: Tensor) -> Tensor:
        """[n, 32] standardised to [n, 1]."""
        return torch.tanh(self.layers(features.index_select(1, self.view)))


class StrategySignals(nn.Module):
    """features [n, 32] to strategy_signals [n, 4], in the order of STRATEGIES."""

    def __init__(self, sample: Tensor) -> None:
        super().__init__()
        self.standardise = Standardise(sample)
        self.specialists = nn.ModuleList(Specialist(VIEWS[name]) for name in STRATEGIES)

    def forward(self, features: Tensor) -> Tensor:
        """Signals in [-1, 1]."""
        standard = self.standardise(features)
        return torch.cat([specialist(standard) for specialist in self.specialists], dim=1)


class MetaController(nn.Module):
    """Weights over strategies: a set a regime, mixed by the regimes' probabilities.

    The mixture is linear in the probabilities, so that a change of regime moves the position
    as smoothly as the probabilities move.
    """

    def __init__(self, sample: Tensor) -> None:
        super().__init__()
        self.standardise = Standardise(sample)
        self.layers = layers(len(FEATURES) + len(STRATEGIES), 32, len(REGIMES) * len(STRATEGIES))

    def forward(
        self, features: Tensor, regime_probabilities: Tensor, strategy_signals: Tensor
    ) -> tuple[Tensor, Tensor]:
        """strategy_weights [n, 4], which sum to 1, and target_position [n, 1] in [-1, 1]."""
        seen = torch.cat([self.standardise(features), strategy_signals], dim=1)
        a_regime = torch.softmax(self.layers(seen).reshape(-1, len(REGIMES), len(STRATEGIES)), dim=2)
        weights = (regime_probabilities.unsqueeze(2) * a_regime).sum(dim=1)
        target = (weights * strategy_signals).sum(dim=1, keepdim=True)
        return weights, target
