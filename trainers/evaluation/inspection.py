"""A dataset at a glance: figures and one picture."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from msgspec import Struct

from trading.features.definitions import FEATURES
from trainers.data import leakage
from trainers.data.dataset import Dataset
from trainers.data.labels import DOWN, UP
from trainers.data.leakage import Suspect
from trainers.evaluation.plots import as_times, thin


class FeatureFigures(Struct, frozen=True):
    """Of one feature over all rows; `correlation` is with the label's return (Spearman)."""

    name: str
    mean: float
    deviation: float
    least: float
    most: float
    correlation: float


class Inspection(Struct, frozen=True):
    """Of a dataset.

    Attributes:
        up, down, neither: shares of labelled rows by the barrier that was met.
        uniqueness: mean; 1 would be labels that do not overlap.
        effective_rows: sum of the uniquenesses: as many independent labels there are.
        half_spread_bps: median; NaN without quotes.
        features: each.
        suspects: features that know the future.
        constant: features that never change.
    """

    up: float
    down: float
    neither: float
    uniqueness: float
    effective_rows: float
    half_spread_bps: float
    features: list[FeatureFigures]
    suspects: list[Suspect]
    constant: list[str]


def inspect(data: Dataset) -> Inspection:
    """All figures of a dataset."""
    labels, valid = data.labels, data.labels.valid
    agreement = {s.feature: s.correlation for s in leakage.suspects(data, 0.0)}
    found = []
    for k, name in enumerate(FEATURES):
        column = data.features[:, k]
        wide = column.astype(np.float64)
        found.append(
            FeatureFigures(name, float(wide.mean()), float(wide.std()), float(column.min()), float(column.max()),
                           agreement[name])
        )  # fmt: skip
    spread = data.half_spread
    return Inspection(
        up=float((labels.side[valid] == UP).mean()), down=float((labels.side[valid] == DOWN).mean()),
        neither=float((labels.side[valid] == 0).mean()), uniqueness=float(labels.uniqueness[valid].mean()),
        effective_rows=float(labels.uniqueness.sum()),
        half_spread_bps=float(np.nanmedian(spread) * 1e4) if np.isfinite(spread).any() else float("nan"),
        features=found, suspects=leakage.suspects(data), constant=[f.name for f in found if f.deviation < 1e-12],
    )  # fmt: skip


def picture(data: Dataset) -> Figure:
    """Price and labels of the symbol with the most rows, label sides over time, uniqueness."""
    symbol = int(np.bincount(data.symbols).argmax())
    mine = np.flatnonzero(data.symbols == symbol)
    time_ns, mid, side, unique = thin(
        data.time_ns[mine], data.market[mine, 3], data.labels.side[mine], data.labels.uniqueness[mine]
    )
    x = as_times(time_ns)
    figure = Figure(figsize=(11, 8), layout="constrained")
    price, sides, weights, returns = figure.subplots(4, 1, height_ratios=(3, 1, 1, 2))
    price.plot(x, mid, color="#444444", linewidth=0.7)
    for which, colour, name in ((UP, "#2e9e5b", "up first"), (DOWN, "#d1495b", "down first")):
        price.scatter(x[side == which], mid[side == which], s=3, color=colour, label=name)
    price.set_title(f"{data.names[symbol]}: {data.manifest.named}"[:110])
    price.legend(markerscale=4)
    window = max(1, len(side) // 100)
    for which, colour in ((UP, "#2e9e5b"), (DOWN, "#d1495b")):
        sides.plot(x, np.convolve(side == which, np.ones(window) / window, "same"), color=colour, linewidth=1)
    sides.set_ylabel("barriers met")
    weights.plot(x, unique, color="#264653", linewidth=0.7)
    weights.set_ylabel("uniqueness")
    z = data.labels.realised[data.labels.valid] / np.maximum(data.labels.deviation[data.labels.valid], 1e-12)
    returns.hist(np.clip(z, -5, 5), bins=100, color="#2a9d8f")
    returns.set_xlabel("return of a label, in its expected deviations")
    return figure
