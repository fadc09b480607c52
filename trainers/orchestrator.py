"""Train the three models of a source: walk-forward folds for the evidence, the last one registered."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import torch
from msgspec import Struct
from torch import Tensor, nn

from gateway.domain.errors import ConfigurationError
from gateway.domain.features import FEATURES
from gateway.domain.schemas import Float32Array, FloatArray, Int64Array
from gateway.domain.signature import (
    META_CONTROLLER,
    REGIME_DETECTION,
    REGIMES,
    STRATEGIES,
    STRATEGY_SIGNALS,
    ModelSignature,
)
from trainers import evaluate, plots, regime_teacher
from trainers.dataset import Dataset
from trainers.labels import Labels, make_labels
from trainers.loop import LoopSettings, device, train
from trainers.nets import MetaController, RegimeDetection, StrategySignals
from trainers.objectives import WINDOW, Tensors, meta_loss, regime_loss, signal_loss, specialist_weights
from trainers.splits import Split, walk_forward
from trainers.tracking import TrainedModel

FOLDS = 3
#: Fewer independent labels a symbol teach nothing.
MIN_HORIZONS = 20


class TrainSettings(Struct, frozen=True):
    """`horizon` and `embargo` are in ticks of a symbol."""

    horizon: int = 10
    seed: int = 7
    loop: LoopSettings = LoopSettings()


class Fold(Struct):
    """The models of one split and what they say of its test rows."""

    split: Split
    teacher: regime_teacher.Teacher
    regime: RegimeDetection
    signals: StrategySignals
    meta: MetaController
    losses: dict[str, list[float]]
    metrics: dict[str, dict[str, float]]
    test_probabilities: FloatArray
    test_gains: dict[str, FloatArray]


def train_all(
    data: Dataset, settings: TrainSettings, progress: Callable[[str], None]
) -> tuple[list[TrainedModel], int]:
    """Train and evaluate on every fold; the models of the last fold are returned, to be registered.

    Returns:
        The models in the order of the pipeline, and the event time (ns) from which on nothing was
        used for training.
    """
    torch.manual_seed(settings.seed)
    if settings.horizon * len(data.names) * MIN_HORIZONS > len(data):
        raise ConfigurationError(
            f"a horizon of {settings.horizon} ticks is too long for {len(data):,} rows of {len(data.names)} "
            f"symbol(s): at least {MIN_HORIZONS} horizons a symbol are needed"
        )
    labels = make_labels(data, settings.horizon)
    embargo = int(np.median(labels.end_ns - data.time_ns))
    folds = []
    for k, split in enumerate(walk_forward(data.time_ns, labels.end_ns, FOLDS, embargo)):
        progress(f"fold {k + 1} of {FOLDS}: {len(split.train):,} training rows, {len(split.test):,} test rows")
        folds.append(train_fold(data, labels, usable(split, labels), settings))
    progress("tracing the models")
    return package(data, settings, folds), folds[-1].split.test_start_ns


def usable(split: Split, labels: Labels) -> Split:
    """Only rows whose label exists."""
    return Split(split.train[labels.valid[split.train]], split.test[labels.valid[split.test]], split.test_start_ns)


def train_fold(data: Dataset, labels: Labels, split: Split, settings: TrainSettings) -> Fold:
    """Teacher, student, specialists, meta-controller, in that order: each learns from the one before."""
    where = device()

    def move(values: FloatArray | Float32Array) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values, np.float32)).to(where)

    rows = split.train
    tensors = Tensors(
        move(data.features[rows]),
        move(labels.forward[rows]),
        move(labels.next_return[rows]),
        move(labels.cost[rows]),
    )
    observations = regime_teacher.observe(data)
    teacher = regime_teacher.fit(observations[rows], data.symbols[rows], settings.seed)
    filtered = teacher.filtered(observations, data.symbols)
    losses = {}

    torch.manual_seed(settings.seed)
    regime = RegimeDetection(tensors.features).to(where)
    losses["regime_detection"] = train(
        regime, len(rows), regime_loss(regime, tensors, move(filtered[rows])), settings.loop
    )
    signals = StrategySignals(tensors.features).to(where)
    columns = {name: k for k, name in enumerate(FEATURES)}
    weights = specialist_weights(tensors.features, columns)
    losses["strategy_signals"] = train(signals, len(rows), signal_loss(signals, tensors, weights), settings.loop)

    meta = MetaController(tensors.features).to(where)
    with torch.inference_mode():
        regimes_seen, signals_seen = regime(tensors.features), signals(tensors.features)
    windows = torch.from_numpy(consecutive(data.symbols[rows])).to(where)
    if len(windows) == 0:
        raise ConfigurationError(f"no symbol has {WINDOW} training rows: give more ticks, or fewer symbols")
    objective = meta_loss(
        meta, tensors, regimes_seen.clone(), signals_seen.clone(), windows, 1.0 / settings.horizon**0.5
    )
    loop = LoopSettings(epochs=settings.loop.epochs, batch_size=max(1, settings.loop.batch_size // WINDOW))
    losses["meta_controller"] = train(meta, len(windows), objective, loop)
    return assess(
        data, labels, split, Fold(split, teacher, regime, signals, meta, losses, {}, filtered, {}), filtered
    )


def consecutive(symbols: Int64Array) -> Int64Array:
    """Windows [w, WINDOW] of consecutive rows of one symbol, without overlap."""
    order = np.argsort(symbols, kind="stable")
    found = [
        rows[: len(rows) // WINDOW * WINDOW].reshape(-1, WINDOW)
        for rows in np.split(order, np.flatnonzero(np.diff(symbols[order])) + 1)
    ]
    return np.concatenate(found)


def assess(data: Dataset, labels: Labels, split: Split, fold: Fold, filtered: FloatArray) -> Fold:
    """Fill in the out-of-sample figures of a fold."""
    rows = split.test
    with torch.inference_mode():
        features = torch.from_numpy(data.features[rows]).to(device())
        probabilities = fold.regime(features)
        signals = fold.signals(features)
        weights, target = fold.meta(features, probabilities, signals)
    p = probabilities.cpu().numpy().astype(np.float64)
    s = signals.cpu().numpy().astype(np.float64)
    position = target.cpu().numpy().astype(np.float64)[:, 0]
    taught = filtered[rows]
    fold.metrics["regime_detection"] = {
        "cross_entropy": float(-(taught * np.log(p + 1e-12)).sum(axis=1).mean()),
        "teacher_entropy": float(-(taught * np.log(taught + 1e-12)).sum(axis=1).mean()),
        "agreement": float((p.argmax(axis=1) == taught.argmax(axis=1)).mean()),
        "teacher_log_likelihood": fold.teacher.log_likelihood,
        **{f"share_{name}": float((p.argmax(axis=1) == k).mean()) for k, name in enumerate(REGIMES)},
    }
    fold.metrics["strategy_signals"] = {
        f"ic_{name}": evaluate.information_coefficient(s[:, k], labels.forward[rows])
        for k, name in enumerate(STRATEGIES)
    }
    paths = {"meta_controller": position, **evaluate.baselines(s)}
    net = {n: evaluate.net_path(path, data.symbols, labels, rows) for n, path in paths.items()}
    fold.test_gains = {n: path.gains for n, path in net.items()}
    summary = {n: evaluate.summarise(path, data.time_ns[rows]) for n, path in net.items()}
    fold.metrics["meta_controller"] = {
        "net_gain": summary["meta_controller"].mean,
        "net_t_statistic": summary["meta_controller"].t_statistic,
        "turnover": summary["meta_controller"].turnover,
        "weights_entropy": float(-(weights * (weights + 1e-9).log()).sum(dim=1).mean()),
        **{f"net_gain_{n}": r.mean for n, r in summary.items() if n != "meta_controller"},
    }
    fold.test_probabilities = p
    return fold


def package(data: Dataset, settings: TrainSettings, folds: list[Fold]) -> list[TrainedModel]:
    """The last fold's models with the metrics of all folds."""
    last = folds[-1]
    rows = last.split.test
    shown = data.symbols[rows] == data.symbols[rows][0]
    pictures = {
        "regime_detection": plots.regime_picture(
            data.names[data.symbols[rows][0]], data.log_mid[rows][shown], last.test_probabilities[shown]
        ),
        "strategy_signals": plots.bars(
            "Information coefficient, out of sample",
            {n: [f.metrics["strategy_signals"][f"ic_{n}"] for f in folds] for n in STRATEGIES},
        ),
        "meta_controller": plots.curves("Net of costs, out of sample, last fold", last.test_gains),
    }
    modules: list[tuple[ModelSignature, nn.Module]] = [
        (REGIME_DETECTION, last.regime),
        (STRATEGY_SIGNALS, last.signals),
        (META_CONTROLLER, last.meta),
    ]
    return [
        TrainedModel(
            signature=signature,
            module=trace(module, signature),
            parameters={
                "horizon_ticks": settings.horizon,
                "seed": settings.seed,
                "folds": FOLDS,
                "epochs": settings.loop.epochs,
                "batch_size": settings.loop.batch_size,
                "learning_rate": settings.loop.learning_rate,
            },
            metrics=all_folds(folds, signature.name),
            losses=last.losses[signature.name],
            picture=pictures[signature.name],
        )
        for signature, module in modules
    ]


def all_folds(folds: list[Fold], name: str) -> dict[str, float]:
    """Each metric of the last fold by its name, and of every fold with its number."""
    metrics = dict(folds[-1].metrics[name])
    for k, fold in enumerate(folds, 1):
        metrics.update({f"fold{k}_{key}": value for key, value in fold.metrics[name].items()})
    return metrics


def trace(module: nn.Module, signature: ModelSignature) -> torch.jit.ScriptModule:
    """TorchScript on the CPU, without gradients. The nets have no branches, so a trace is whole."""
    module = module.cpu().eval().requires_grad_(requires_grad=False)
    example = tuple(torch.randn(3, *tensor.dims) for tensor in signature.inputs)
    with warnings.catch_warnings():
        # torch announces the end of TorchScript; Triton's PyTorch backend runs nothing else.
        warnings.simplefilter("ignore", DeprecationWarning)
        traced: torch.jit.ScriptModule = torch.jit.trace(module, example)
    return traced
