"""Out of sample, costs counted, beside what a meta-controller must beat; and whether it may be luck."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from msgspec import Struct

from trading.arrays import FloatArray, Int64Array
from trading.models.signature import STRATEGIES
from trading.risk.limits import LimitSet
from trainers.costs import Costs
from trainers.data.dataset import Dataset
from trainers.evaluation import backtest, baselines, metrics, significance
from trainers.evaluation.backtest import Path
from trainers.evaluation.metrics import PerformanceFigures, ReturnSeries
from trainers.evaluation.significance import Interval
from trainers.training.fold import Fold, ask

LEVEL = 0.95
#: Fewer periods say nothing about luck.
MIN_PERIODS = 30
#: The latest training rows tell which strategy was best so far.
CHOOSING_ROWS = 100_000


class Evaluation(Struct, frozen=True):
    """Of all test rows of the walk-forward folds, in one piece.

    Attributes:
        figures: by path: the meta-controller, the baselines, each strategy.
        series: returns by period of each path.
        interval: of the meta-controller's mean net return a period.
        deflated_sharpe: P(true Sharpe ratio > 0), `trials` counted.
        overfitting: probability of backtest overfitting over the paths; NaN where there are too few periods.
        trials: how many ways to trade were tried.
        best_single: the strategy that each fold would have chosen.
        edge: whether the net gain is above zero at the level, and not explained by the choice among trials.
        verdict: one sentence.
    """

    figures: dict[str, PerformanceFigures]
    series: dict[str, ReturnSeries]
    interval: Interval
    deflated_sharpe: float
    overfitting: float
    trials: int
    best_single: tuple[str, ...]
    edge: bool
    verdict: str


def evaluate(
    data: Dataset, folds: Sequence[Fold], costs: Costs, limits: LimitSet | None = None, trials: int = 0
) -> Evaluation:
    """Trade the folds' test rows.

    Args:
        data: where they are.
        folds: of a walk-forward split, in order.
        costs, limits: see `backtest.run`.
        trials: how many more were tried, by a search for instance.
    """
    rows = np.concatenate([fold.split.test for fold in folds])
    chosen, parts = [], []
    for fold in folds:
        best, scale = choose(data, fold, costs)
        chosen.append(STRATEGIES[best])
        told = baselines.targets(fold.answers.signals, data.symbols[fold.split.test], best, scale)
        parts.append({baselines.META: fold.answers.target, **told})
    order = np.argsort(rows, kind="stable")
    targets = {name: np.concatenate([part[name] for part in parts])[order] for name in parts[0]}
    paths = {name: backtest.run(data, rows[order], target, costs, limits) for name, target in targets.items()}
    return judge(data, paths, tuple(chosen), trials)


def choose(data: Dataset, fold: Fold, costs: Costs) -> tuple[int, float]:
    """The strategy that was best on the training rows, net of costs; and the deviation of the mean signal there."""
    rows = fold.split.train[-CHOOSING_ROWS:]
    signals = ask(fold.regime, fold.signals, fold.meta, data.features, rows).signals
    order = np.argsort(data.symbols[rows], kind="stable")
    symbols, unit = data.symbols[rows][order], costs.unit(data.half_spread[rows])[order]
    following = data.labels.next_log_return[rows][order]
    same = np.concatenate([[False], symbols[1:] == symbols[:-1]])
    gains = []
    for k in range(len(STRATEGIES)):
        signal = signals[order, k]
        change = np.abs(np.diff(signal, prepend=0.0)) * same
        gains.append(float((signal * following - change * unit).mean()))
    return int(np.argmax(gains)), float(signals.mean(axis=1).std())


def judge(data: Dataset, paths: dict[str, Path], chosen: tuple[str, ...], trials: int) -> Evaluation:
    """Figures of every path, and what they are worth."""
    time_ns = {name: data.time_ns[path.rows] for name, path in paths.items()}
    series = {name: metrics.series(path, time_ns[name]) for name, path in paths.items()}
    figures = {name: metrics.figures(path, data) for name, path in paths.items()}
    mine = series[baselines.META].net
    tried = len(series) + trials
    interval = significance.mean_interval(mine, LEVEL)
    deflated = significance.deflated_sharpe(mine, tried)
    overfit = significance.overfitting_probability(np.stack([one.net for one in series.values()], axis=1))
    edge = len(mine) >= MIN_PERIODS and interval.low > 0.0 and deflated >= LEVEL
    return Evaluation(
        figures, series, interval, deflated, overfit, tried, chosen, edge,
        verdict(data.manifest.named, figures, interval, deflated, edge=edge),
    )  # fmt: skip


def verdict(
    source: str, figures: dict[str, PerformanceFigures], interval: Interval, deflated: float, *, edge: bool
) -> str:
    """One honest sentence."""
    mine = figures[baselines.META]
    told = (
        f"net {mine.mean_bps:+.3g} bp a period of {mine.period}, {interval.level:.0%} interval "
        f"{interval.low * 1e4:+.3g} to {interval.high * 1e4:+.3g}, deflated Sharpe ratio {deflated:.2f}"
    )
    if not edge:
        why = ""
        if mine.gross > 0.0 >= mine.total:
            why = ": what it gains before costs, they take"
        elif interval.low > 0.0:
            why = ": its gain may be luck, and the best of so many trials"
        return f"no edge survives costs on {source}{why} ({told})"
    better = [n for n in baselines.NAMES if figures[n].t_statistic > mine.t_statistic]
    if better:
        names = " and ".join(name.replace("_", " ") for name in better)
        return f"the net gain on {source} is significant, but {names} did better for its risk ({told})"
    return f"net of costs the meta-controller beats every baseline on {source} ({told})"


def information_coefficient(signal: FloatArray, forward: FloatArray) -> float:
    """Pearson correlation; 0 for a constant."""
    if signal.std() < 1e-12 or forward.std() < 1e-12:
        return 0.0
    return float(np.corrcoef(signal, forward)[0, 1])


def coefficients(data: Dataset, fold: Fold) -> dict[str, float]:
    """Information coefficient of each strategy on the test rows that have a label."""
    rows: Int64Array = fold.split.test
    forward = data.labels.realised[rows]
    return {name: information_coefficient(fold.answers.signals[:, k], forward) for k, name in enumerate(STRATEGIES)}


def comparison(evaluation: Evaluation) -> dict[str, float]:
    """What MLflow keeps of an evaluation, by path."""
    found = {
        "edge": float(evaluation.edge), "deflated_sharpe": evaluation.deflated_sharpe,
        "interval_low_bps": evaluation.interval.low * 1e4, "interval_high_bps": evaluation.interval.high * 1e4,
        "overfitting_probability": evaluation.overfitting, "trials": float(evaluation.trials),
    }  # fmt: skip
    for name, one in evaluation.figures.items():
        prefix = "" if name == baselines.META else f"{name}_"
        for key in ("total", "gross", "mean_bps", "sharpe", "sortino", "t_statistic", "max_drawdown", "turnover",
                    "hit_rate", "capacity"):  # fmt: skip
            found[f"{prefix}{key}"] = float(getattr(one, key))
    return {name: value for name, value in found.items() if math.isfinite(value)}
