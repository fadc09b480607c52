"""The three networks. Each standardises its own input, so that the exported file is complete."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from trading.features.definitions import FEATURES
from trading.models.signature import REGIMES, STRATEGIES

#: Floats that a CPU's widest registers and cache lines hold evenly.
ALIGNED = 8
#: Standardised features beyond this are cut: one absurd tick must not saturate the network.
CUT = 8.0

TREND = (*(f for f in FEATURES if f.startswith("return_") and f != "return_zscore"), "macd", "macd_histogram")
RISK = (*(f for f in FEATURES if f.startswith("volatility_")), "range_14", "drawdown_20d")
BOOK = ("spread_zscore", "size_imbalance", "microprice_deviation_bps")

#: What each specialist may look at.
VIEWS: dict[str, tuple[str, ...]] = {
    "momentum": (*TREND, "range_14"),
    "mean_reversion": (
        "bollinger_position",
        "rsi_14",
        "return_zscore",
        "return_1s",
        *BOOK,
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
    "bull_expert": (*TREND, *RISK, "drawdown_10m", "bollinger_position"),
    "bear_expert": (*TREND, *RISK, "drawdown_10m", "return_zscore"),
    "sideways_expert": ("bollinger_position", "rsi_14", "return_zscore", "macd_histogram", *RISK, *BOOK),
}


#: What is divided by the range (the first of the scales), and of what logarithms are taken.
MOVES = ("macd", "macd_histogram", "return_1s", "return_10s", "return_1m", "drawdown_10m")
SCALES = ("range_14", "volatility_10s", "tick_rate")
OSCILLATORS = ("rsi_14", "bollinger_position", "return_zscore")
SMALLEST, LARGEST_RATIO = 1e-9, 10.0


def places(names: tuple[str, ...]) -> Tensor:
    """Columns of features, int64."""
    return torch.tensor([FEATURES.index(name) for name in names])


class Standardise(nn.Module):
    """(x - mean) / deviation, cut at 8; constant columns become 0."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, features: Tensor) -> None:
        super().__init__()
        # In double: features of a market that hardly moves differ in their last digits.
        wide = features.double()
        deviation = wide.std(dim=0).float()
        self.register_buffer("mean", wide.mean(dim=0).float())
        self.register_buffer("deviation", torch.where(deviation > 1e-9, deviation, torch.inf))

    def forward(self, features: Tensor) -> Tensor:
        """[n, width] to [n, width]."""
        return ((features - self.mean) / self.deviation).clamp(-CUT, CUT)


def layers(width: int, hidden: int, out: int) -> nn.Sequential:
    """Two tanh layers and a linear one."""
    return nn.Sequential(
        nn.Linear(width, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh(), nn.Linear(hidden, out)
    )


class Dimensionless(nn.Module):
    """What regimes are told by, from features [n, 32]: moves / range, ln range, and oscillators, [n, width].

    A network of standardised features would have to learn to divide; the teacher looks at ratios. What looks back
    over hours or days is left out: it drifts for as long as the history is shorter, and a network that leans on it
    is lost in the next hour.
    """

    moves: Tensor
    scales: Tensor
    oscillators: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("moves", places(MOVES))
        self.register_buffer("scales", places(SCALES))
        self.register_buffer("oscillators", places(OSCILLATORS))
        self.width = len(MOVES) + len(SCALES) + len(OSCILLATORS)

    def forward(self, features: Tensor) -> Tensor:
        """Moves / range, cut at 10; ln of scales; oscillators."""
        scales = features.index_select(1, self.scales).clamp(min=SMALLEST)
        ratios = (features.index_select(1, self.moves) / scales[:, :1]).clamp(-LARGEST_RATIO, LARGEST_RATIO)
        # Whole registers of logarithms a row: what is left over would be computed to other last bits.
        whole = nn.functional.pad(scales, (0, -len(SCALES) % (2 * ALIGNED)), value=1.0).log()
        logs = whole[:, : len(SCALES)]
        return torch.cat([ratios, logs, features.index_select(1, self.oscillators)], dim=1)


class RegimeDetection(nn.Module):
    """features [n, 32] to regime_probabilities [n, 3], calibrated by one temperature (Guo et al. 2017)."""

    temperature: Tensor

    def __init__(self, sample: Tensor) -> None:
        super().__init__()
        self.dimensionless = Dimensionless()
        self.standardise = Standardise(self.dimensionless(sample))
        self.layers = layers(self.dimensionless.width, 48, len(REGIMES))
        self.register_buffer("temperature", torch.ones(1))

    def logits(self, features: Tensor) -> Tensor:
        """Before the softmax, for the loss."""
        out: Tensor = self.layers(self.standardise(self.dimensionless(features))) / self.temperature
        return out

    def forward(self, features: Tensor) -> Tensor:
        """Probabilities of bull, bear, sideways."""
        return torch.softmax(self.layers(self.standardise(self.dimensionless(features))) / self.temperature, dim=1)


class Specialist(nn.Module):
    """One strategy: its view of the features to a signal in [-1, 1]."""

    view: Tensor

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__()
        self.register_buffer("view", places(names))
        self.layers = layers(len(names), 16, 1)

    def forward(self, features: Tensor) -> Tensor:
        """[n, 32] standardised to [n, 1]."""
        return torch.tanh(self.layers(features.index_select(1, self.view)))


class StrategySignals(nn.Module):
    """features [n, 32] to strategy_signals [n, 7], in the order of STRATEGIES."""

    def __init__(self, sample: Tensor) -> None:
        super().__init__()
        self.standardise = Standardise(sample)
        self.specialists = nn.ModuleList(Specialist(VIEWS[name]) for name in STRATEGIES)

    def forward(self, features: Tensor) -> Tensor:
        """Signals in [-1, 1]."""
        standard = self.standardise(features)
        return torch.cat([specialist(standard) for specialist in self.specialists], dim=1)


def row_sums(values: Tensor) -> Tensor:
    """[n, k] to [n, 1], each row's sum the same bits wherever it lies in a batch.

    A vectorised sum begins where its row is aligned, and rows of seven floats are aligned one way or another: their
    terms would be added in another order at another place, and a replay would not decide the same. Eight are
    aligned alike.
    """
    return nn.functional.pad(values, (0, -values.shape[1] % ALIGNED)).sum(dim=1, keepdim=True)


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
        """strategy_weights [n, 7], which sum to 1, and target_position [n, 1] in [-1, 1]."""
        seen = torch.cat([self.standardise(features), strategy_signals], dim=1)
        a_regime = torch.softmax(self.layers(seen).reshape(-1, len(REGIMES), len(STRATEGIES)), dim=2)
        weights = (regime_probabilities.unsqueeze(2) * a_regime).sum(dim=1)
        target = row_sums(weights * strategy_signals)
        return weights, target
