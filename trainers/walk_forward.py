"""Train the three models of a dataset: walk-forward folds for the evidence, the last one registered."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import numpy as np
import torch
from matplotlib.figure import Figure
from msgspec import Struct
from torch import nn

from trading.arrays import FloatArray
from trading.errors import ConfigurationError
from trading.market import MID
from trading.models.signature import META_CONTROLLER, REGIME_DETECTION, STRATEGIES, STRATEGY_SIGNALS, ModelSignature
from trading.risk.limits import LimitSet
from trainers.code_version import digest
from trainers.data import leakage, splits
from trainers.data.dataset import Dataset
from trainers.data.splits import Split
from trainers.evaluation import backtest, evaluate, metrics, plots, regime_report
from trainers.evaluation.evaluate import Evaluation
from trainers.evaluation.model_card import card
from trainers.evaluation.regime_report import RegimeReport
from trainers.evaluation.tear_sheet import tear_sheet
from trainers.memory_budget import THREADS, be_deterministic
from trainers.models.regime_teacher import Teacher
from trainers.training.checkpoint import Checkpoints
from trainers.training.fold import Fold, FoldSettings, train_fold
from trainers.training.loop import Fitted, TrainingStep

FOLDS = 3
#: Fewer rows in a training set teach nothing.
MIN_TRAIN_ROWS = 1_000
MIN_TEST_ROWS = 100


class TrainSettings(Struct, frozen=True):
    """What a training is made with.

    Attributes:
        fold: of each fold.
        folds: walk-forward test segments.
        first_test: the share of the rows before the first of them.
        embargo: as a share of the horizon.
        groups, tested: of combinatorial purged cross-validation beside the folds; 0 groups: none.
        trials: how many ways were tried before this one: they deflate its Sharpe ratio.
    """

    fold: FoldSettings = FoldSettings()
    folds: int = FOLDS
    first_test: float = splits.FIRST_TEST
    embargo: float = 1.0
    groups: int = 0
    tested: int = 2
    trials: int = 0


class TrainedModel(Struct, frozen=True):
    """What a run logs. `module` is TorchScript: complete in itself, and no pickle.

    Attributes:
        signature, module: the model.
        parameters, metrics: of the training; metrics are out of sample.
        fitted: how the registered fold's training went.
        pictures: by name.
        texts: further files, by name.
    """

    signature: ModelSignature
    module: torch.jit.ScriptModule
    parameters: Mapping[str, str | int | float]
    metrics: Mapping[str, float]
    fitted: Fitted
    pictures: Mapping[str, Figure]
    texts: Mapping[str, str]


class Trained(Struct, frozen=True):
    """A finished training.

    Attributes:
        models: in the order of the pipeline.
        evaluation: of all walk-forward test rows.
        path_t: t-statistics of the combinatorial paths; empty where there are none.
        sheet: HTML of the evaluation.
        trained_until_ns: nothing at or after it was learned from by the registered models.
        reports: of the regimes, a fold.
        folds: the models of each fold.
    """

    models: tuple[TrainedModel, ...]
    evaluation: Evaluation
    path_t: tuple[float, ...]
    sheet: str
    trained_until_ns: int
    reports: tuple[RegimeReport, ...]
    folds: tuple[Fold, ...]


def identity(data: Dataset, settings: TrainSettings) -> dict[str, Any]:
    """What a training's result depends on: names its checkpoints."""
    return {
        "dataset": data.manifest.dataset_hash, "settings": msgspec.to_builtins(settings), "code": digest(),
        "torch": torch.__version__, "threads": THREADS, "cuda": torch.cuda.is_available(),
    }  # fmt: skip


def train_all(
    data: Dataset,
    settings: TrainSettings,
    progress: Callable[[TrainingStep], None] = lambda _: None,
    checkpoints: Checkpoints | None = None,
    limits: LimitSet | None = None,
    before: Teacher | None = None,
) -> Trained:
    """Train and evaluate on every fold; the models of the last fold are returned, to be registered.

    Args:
        data: all rows.
        settings: of the training.
        progress: called after each step.
        checkpoints: where each stage is kept.
        limits: the backtest's; default: `backtest.research_limits`.
        before: the teacher of the models in service: regimes keep its names.

    Raises:
        ConfigurationError: too few rows for the folds; a feature knows the future.
    """
    be_deterministic(settings.fold.seed)
    settings.fold.costs.check()
    leakage.check(data)
    embargo = int(settings.embargo * data.manifest.horizon_ns)
    walks = splits.walk_forward(data.time_ns, data.labels.end_ns, settings.folds, embargo, settings.first_test)
    folds: list[Fold] = []
    reports: list[RegimeReport] = []
    for k, split in enumerate(walks, 1):
        teacher = folds[-1].teacher if folds else before
        fold = train_fold(
            f"fold {k} of {settings.folds}",
            data,
            usable(split, data),
            settings.fold,
            teacher,
            checkpoints,
            progress,
        )
        reports.append(regime_report.report(data, fold, teacher))
        folds.append(fold)
    progress(TrainingStep("evaluate", 0, 1, 0.0))
    evaluation = evaluate.evaluate(data, folds, settings.fold.costs, limits, settings.trials)
    path_t = combinatorial(data, settings, folds[-1].teacher, checkpoints, limits, progress)
    return package(data, settings, folds, reports, evaluation, path_t)


def usable(split: Split, data: Dataset) -> Split:
    """Only rows with a label. Raises ConfigurationError where too few are left."""
    valid = data.labels.valid
    train, test = split.train[valid[split.train]], split.test[valid[split.test]]
    if len(train) < MIN_TRAIN_ROWS or len(test) < MIN_TEST_ROWS:
        raise ConfigurationError(
            f"a fold has {len(train):,} training rows and {len(test):,} test rows of {len(data):,}; at least "
            f"{MIN_TRAIN_ROWS:,} and {MIN_TEST_ROWS:,} are needed: give more ticks or fewer folds"
        )
    return Split(train, test, split.test_start_ns, split.groups)


def combinatorial(
    data: Dataset,
    settings: TrainSettings,
    before: Teacher,
    checkpoints: Checkpoints | None,
    limits: LimitSet | None,
    progress: Callable[[TrainingStep], None],
) -> tuple[float, ...]:
    """t-statistics of the meta-controller's net return over each combinatorial path."""
    if not settings.groups:
        return ()
    embargo = int(settings.embargo * data.manifest.horizon_ns)
    targets: dict[tuple[int, int], tuple[FloatArray, Any]] = {}
    parts = splits.combinatorial(data.time_ns, data.labels.end_ns, settings.groups, settings.tested, embargo)
    edges = np.quantile(data.time_ns, np.linspace(0.0, 1.0, settings.groups + 1), method="nearest").astype(np.int64)
    for k, split in enumerate(parts):
        name = f"cpcv {k + 1}"
        fold = train_fold(name, data, usable(split, data), settings.fold, before, checkpoints, progress)
        which = np.searchsorted(edges[1:-1], data.time_ns[fold.split.test], "right")
        for group in split.groups:
            mine = which == group
            targets[k, group] = (fold.answers.target[mine], fold.split.test[mine])
    found = []
    for path in splits.paths(settings.groups, settings.tested):
        rows = np.concatenate([targets[place][1] for place in path])
        order = np.argsort(rows, kind="stable")
        target = np.concatenate([targets[place][0] for place in path])[order]
        traded = backtest.run(data, rows[order], target, settings.fold.costs, limits)
        net = metrics.series(traded, data.time_ns[traded.rows]).net
        found.append(metrics.sharpe(net) * len(net) ** 0.5)
    return tuple(found)


def package(
    data: Dataset,
    settings: TrainSettings,
    folds: list[Fold],
    reports: list[RegimeReport],
    evaluation: Evaluation,
    path_t: tuple[float, ...],
) -> Trained:
    """The last fold's models with their evidence."""
    last, report = folds[-1], reports[-1]
    coefficients = [evaluate.coefficients(data, fold) for fold in folds]
    pictures = {
        REGIME_DETECTION.name: regime_pictures(data, last, report),
        STRATEGY_SIGNALS.name: {"information_coefficient": plots.coefficients(coefficients)},
        META_CONTROLLER.name: {
            "equity": plots.equity(evaluation.series),
            "drawdown": plots.drawdown(evaluation.series),
        },
    }
    if path_t:
        pictures[META_CONTROLLER.name]["combinatorial_paths"] = plots.paths_of_sharpe(list(path_t))
    measured = {
        REGIME_DETECTION.name: by_fold([r.metrics() for r in reports]),
        STRATEGY_SIGNALS.name: by_fold([{f"ic_{n}": v for n, v in c.items()} for c in coefficients]),
        META_CONTROLLER.name: {**evaluate.comparison(evaluation), **meta_metrics(last), **path_metrics(path_t)},
    }
    more = {"Regimes": pictures[REGIME_DETECTION.name]["regimes"], "Calibration": plots.calibration(report.curve)}
    sheet = tear_sheet(evaluation, data.manifest, settings.fold.costs, more)
    parameters = flat(msgspec.to_builtins(settings))
    modules: list[tuple[ModelSignature, nn.Module]] = [
        (REGIME_DETECTION, last.regime), (STRATEGY_SIGNALS, last.signals), (META_CONTROLLER, last.meta),
    ]  # fmt: skip
    until = last.split.test_start_ns
    models = []
    for signature, module in modules:
        name = signature.name
        texts = {"model_card.md": card(signature, data.manifest, settings.fold.costs, measured[name], parameters,
                                       evaluation.verdict, until)}  # fmt: skip
        if name == REGIME_DETECTION.name:
            texts["teacher.json"] = msgspec.json.encode(as_plain(last.teacher)).decode()
        if name == META_CONTROLLER.name:
            texts["tear_sheet.html"] = sheet
        drawn = {**pictures[name], "losses": plots.losses(last.fitted[name])}
        models.append(
            TrainedModel(
                signature, trace(module, signature), parameters, measured[name], last.fitted[name], drawn, texts
            )
        )
    return Trained(tuple(models), evaluation, path_t, sheet, until, tuple(reports), tuple(folds))


def regime_pictures(data: Dataset, fold: Fold, report: RegimeReport) -> dict[str, Figure]:
    """Of the symbol with the most test rows."""
    rows = fold.split.test
    symbol = int(np.bincount(data.symbols[rows]).argmax())
    shown = data.symbols[rows] == symbol
    mine = rows[shown]
    return {
        "regimes": plots.regimes(
            data.names[symbol], data.time_ns[mine], data.market[mine, MID], fold.answers.probabilities[shown]
        ),
        "calibration": plots.calibration(report.curve),
        "transitions": plots.transitions(report.transitions, report.expected_dwell),
    }


def by_fold(folds: list[dict[str, float]]) -> dict[str, float]:
    """Each metric of the last fold by its name, and of every fold with its number."""
    found = dict(folds[-1])
    for k, fold in enumerate(folds, 1):
        found.update({f"fold{k}_{key}": value for key, value in fold.items()})
    return found


def meta_metrics(fold: Fold) -> dict[str, float]:
    """How the last fold's weights look on its test rows."""
    w = fold.answers.weights
    found = {"weights_entropy": float(-(w * np.log(w + 1e-9)).sum(axis=1).mean())}
    found.update({f"weight_{name}": float(w[:, k].mean()) for k, name in enumerate(STRATEGIES)})
    return found


def path_metrics(path_t: tuple[float, ...]) -> dict[str, float]:
    """Of the combinatorial paths."""
    if not path_t:
        return {}
    return {
        "cpcv_median_t": float(np.median(path_t)),
        "cpcv_share_below_zero": float(np.mean(np.array(path_t) < 0)),
    }


def flat(values: Any, prefix: str = "") -> dict[str, str | int | float]:
    """Nested settings with dots in their names."""
    found: dict[str, str | int | float] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            found.update(flat(value, f"{prefix}{key}."))
        else:
            found[f"{prefix}{key}"] = value
    return found


def as_plain(teacher: Teacher) -> dict[str, Any]:
    """A teacher as JSON can hold it."""
    return {
        name: value.tolist() if isinstance(value, np.ndarray) else value
        for name in teacher.__struct_fields__
        for value in [getattr(teacher, name)]
    }


def from_plain(values: dict[str, Any]) -> Teacher:
    """What `as_plain` gave. Raises ConfigurationError for anything else."""
    try:
        return Teacher(
            kind=str(values["kind"]), regime_of=np.array(values["regime_of"], np.int64),
            log_likelihood=float(values["log_likelihood"]),
            **{k: np.array(values[k], np.float64) for k in ("means", "variances", "transitions", "start")},
        )  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigurationError(f"the stored teacher is none: {error}") from error


def trace(module: nn.Module, signature: ModelSignature) -> torch.jit.ScriptModule:
    """TorchScript on the CPU, without gradients. The nets have no branches, so a trace is whole."""
    module = module.cpu().eval().requires_grad_(requires_grad=False)
    example = tuple(torch.randn(3, *tensor.dims) for tensor in signature.inputs)
    with warnings.catch_warnings():
        # torch announces the end of TorchScript; Triton's PyTorch backend runs nothing else.
        warnings.simplefilter("ignore", DeprecationWarning)
        traced: torch.jit.ScriptModule = torch.jit.trace(module, example)
    return traced
