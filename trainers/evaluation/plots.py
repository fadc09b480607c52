"""Pictures of what was learned, logged with its run."""

from __future__ import annotations

import math
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from trading.arrays import FloatArray, Int64Array
from trading.models.signature import REGIMES, STRATEGIES
from trainers.evaluation import baselines
from trainers.evaluation.metrics import ReturnSeries
from trainers.models.calibration import Curve
from trainers.training.loop import Fitted

mpl.use("Agg")
COLOURS = {"bull": "#2e9e5b", "bear": "#d1495b", "sideways": "#8d99ae"}
PATHS = {
    baselines.META: "#d1495b", "equal_weights": "#264653", "best_single": "#e9c46a", "buy_and_hold": "#8d99ae",
    "hysteresis": "#2a9d8f",
}  # fmt: skip
MAX_POINTS = 4000


def thin(*arrays: Any) -> list[Any]:
    """Every k-th value, so that a picture has at most MAX_POINTS."""
    step = max(1, len(arrays[0]) // MAX_POINTS)
    return [a[::step] for a in arrays]


def as_times(time_ns: Int64Array) -> Any:
    """For an axis of dates."""
    return time_ns.astype("datetime64[ns]")


def regimes(symbol: str, time_ns: Int64Array, mid: FloatArray, probabilities: FloatArray) -> Figure:
    """Price coloured by the likeliest regime, and the probabilities below; out of sample."""
    time_ns, mid, probabilities = thin(time_ns, mid, probabilities)
    x = as_times(time_ns)
    figure = Figure(figsize=(11, 6), layout="constrained")
    price, mix = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    price.plot(x, mid, color="#444444", linewidth=0.4, alpha=0.6)
    likeliest = probabilities.argmax(axis=1)
    for k, name in enumerate(REGIMES):
        mask = likeliest == k
        price.scatter(x[mask], mid[mask], s=4, color=COLOURS[name], label=name)
    price.set_title(f"{symbol}, out of sample: price by likeliest regime")
    price.legend(markerscale=4)
    mix.stackplot(x, probabilities.T, colors=[COLOURS[n] for n in REGIMES], labels=REGIMES)
    mix.set_ylim(0, 1)
    mix.set_ylabel("probability")
    return figure


def calibration(curve: Curve) -> Figure:
    """What was said against what was so."""
    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="#8d99ae", linewidth=1)
    axes.plot(curve.predicted, curve.observed, marker="o", color="#264653")
    axes.set_xlabel("student's probability")
    axes.set_ylabel("teacher's")
    axes.set_title(f"Calibration out of sample, error {curve.error:.3f}")
    return figure


def transitions(matrix: FloatArray, dwell: FloatArray) -> Figure:
    """The teacher's matrix between regimes, and how long each lasts."""
    figure = Figure(figsize=(5.5, 5), layout="constrained")
    axes = figure.subplots()
    axes.imshow(matrix, cmap="Blues", vmin=0, vmax=1)
    for a in range(len(REGIMES)):
        for b in range(len(REGIMES)):
            colour = "white" if matrix[a, b] > 0.5 else "black"
            axes.text(b, a, f"{matrix[a, b]:.3f}", ha="center", va="center", color=colour)
    axes.set_xticks(range(len(REGIMES)), list(REGIMES))
    axes.set_yticks(range(len(REGIMES)), [f"{n}\n{d:,.0f} rows" for n, d in zip(REGIMES, dwell, strict=True)])
    axes.set_title("Transitions a row, from (left) to, and expected stay")
    return figure


def coefficients(folds: list[dict[str, float]]) -> Figure:
    """Information coefficient of each strategy, a bar a fold."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    axes = figure.subplots()
    for k, values in enumerate(folds):
        at = np.arange(len(STRATEGIES)) + (k - (len(folds) - 1) / 2) * 0.25
        axes.bar(at, [values[name] for name in STRATEGIES], width=0.22, label=f"fold {k + 1}")
    axes.set_xticks(range(len(STRATEGIES)), [name.replace("_", "\n") for name in STRATEGIES])
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_title("Information coefficient with the label's return, out of sample")
    axes.legend()
    return figure


def losses(fitted: Fitted) -> Figure:
    """Training and validation loss by epoch."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    epochs = np.arange(1, len(fitted.losses) + 1)
    axes.plot(epochs, fitted.losses, marker="o", label="training")
    if fitted.validation:
        axes.plot(np.arange(1, len(fitted.validation) + 1), fitted.validation, marker="o", label="validation")
        axes.axvline(fitted.best_epoch + 1, color="#8d99ae", linewidth=1, label="kept")
    axes.set_xlabel("epoch")
    axes.set_ylabel("loss")
    axes.legend()
    return figure


def equity(series: dict[str, ReturnSeries]) -> Figure:
    """Sum of net returns of the main paths; costs' share as the distance to the dashed line."""
    figure = Figure(figsize=(11, 5), layout="constrained")
    axes = figure.subplots()
    for name, colour in PATHS.items():
        one = series[name]
        x, net = thin(one.time_ns, np.cumsum(one.net) * 100)
        axes.plot(as_times(x), net, label=name.replace("_", " "), color=colour,
                  linewidth=2 if name == baselines.META else 1)  # fmt: skip
    mine = series[baselines.META]
    x, gross = thin(mine.time_ns, np.cumsum(mine.gross) * 100)
    axes.plot(as_times(x), gross, color=PATHS[baselines.META], linestyle="--", linewidth=1, label="before costs")
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_ylabel("% of the capital, not reinvested")
    axes.set_title("Out of sample, net of costs")
    axes.legend()
    return figure


def drawdown(series: dict[str, ReturnSeries]) -> Figure:
    """Fall of the sum of returns from its peak."""
    figure = Figure(figsize=(11, 3), layout="constrained")
    axes = figure.subplots()
    for name in (baselines.META, "buy_and_hold"):
        one = series[name]
        total = np.cumsum(one.net)
        x, fall = thin(one.time_ns, (total - np.maximum.accumulate(np.maximum(total, 0.0))) * 100)
        axes.plot(as_times(x), fall, color=PATHS[name], linewidth=1, label=name.replace("_", " "))
    axes.set_ylabel("drawdown, %")
    axes.legend()
    return figure


def returns(series: ReturnSeries) -> Figure:
    """How returns are distributed."""
    figure = Figure(figsize=(11, 3), layout="constrained")
    axes = figure.subplots()
    values = series.net[np.abs(series.net) > 1e-15] * 1e4
    if len(values):
        low, high = np.quantile(values, [0.005, 0.995])
        axes.hist(np.clip(values, low, high), bins=80, color="#2a9d8f")
        axes.axvline(float(values.mean()), color="#d1495b", linewidth=1)
    axes.set_yscale("log")
    axes.set_xlabel("net return of a period with a position, basis points")
    return figure


def paths_of_sharpe(values: list[float]) -> Figure:
    """How the combinatorial paths did."""
    figure = Figure(figsize=(8, 3), layout="constrained")
    axes = figure.subplots()
    axes.hist(values, bins=max(5, int(math.sqrt(len(values)) * 3)), color="#264653")
    axes.axvline(0, color="#d1495b", linewidth=1)
    axes.set_xlabel("t-statistic of the mean net return, a path")
    return figure
