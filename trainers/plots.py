"""One picture a model, logged with its run."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from gateway.domain.schemas import FloatArray
from gateway.domain.signature import REGIMES

mpl.use("Agg")
COLOURS = {"bull": "#2e9e5b", "bear": "#d1495b", "sideways": "#8d99ae"}
MAX_POINTS = 4000


def thin(*arrays: FloatArray) -> list[FloatArray]:
    """Every k-th value, so that a picture has at most MAX_POINTS."""
    step = max(1, len(arrays[0]) // MAX_POINTS)
    return [a[::step] for a in arrays]


def regime_picture(symbol: str, log_mid: FloatArray, probabilities: FloatArray) -> Figure:
    """Price coloured by the likeliest regime, and the probabilities below; out of sample."""
    log_mid, probabilities = thin(log_mid, probabilities)
    x = np.arange(len(log_mid))
    figure = Figure(figsize=(10, 6), layout="constrained")
    price, mix = figure.subplots(2, 1, sharex=True)
    likeliest = probabilities.argmax(axis=1)
    for k, name in enumerate(REGIMES):
        mask = likeliest == k
        price.scatter(x[mask], np.exp(log_mid[mask]), s=3, color=COLOURS[name], label=name)
    price.set_title(f"{symbol}, out of sample: price by likeliest regime")
    price.legend(markerscale=4)
    mix.stackplot(x, probabilities.T, colors=[COLOURS[n] for n in REGIMES], labels=REGIMES)
    mix.set_ylim(0, 1)
    mix.set_ylabel("probability")
    return figure


def bars(title: str, values: dict[str, list[float]]) -> Figure:
    """Grouped bars, one group a name, one bar a fold."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    folds = max(len(v) for v in values.values())
    for k in range(folds):
        at = np.arange(len(values)) + (k - (folds - 1) / 2) * 0.25
        axes.bar(at, [v[k] for v in values.values()], width=0.22, label=f"fold {k + 1}")
    axes.set_xticks(range(len(values)), list(values))
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_title(title)
    axes.legend()
    return figure


def curves(title: str, paths: dict[str, FloatArray]) -> Figure:
    """Cumulative sums."""
    figure = Figure(figsize=(10, 5), layout="constrained")
    axes = figure.subplots()
    for name, gains in paths.items():
        (thinned,) = thin(np.cumsum(gains))
        axes.plot(
            np.linspace(0, len(gains), len(thinned)),
            thinned,
            label=name,
            linewidth=2 if name == "meta_controller" else 1,
        )
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_title(title)
    axes.set_xlabel("ticks, out of sample")
    axes.set_ylabel("basis points of a full position")
    axes.legend()
    return figure
