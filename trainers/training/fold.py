"""One split: teacher, student, specialists and meta-controller, each learning from the one before, on training rows
only; and what they say of the test rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from msgspec import Struct
from torch import Tensor, nn

from trading.arrays import Float32Array, FloatArray, Int64Array
from trading.errors import ConfigurationError
from trainers.costs import Costs
from trainers.data.dataset import Dataset
from trainers.data.splits import Split
from trainers.models import calibration, regime_fits, regime_teacher
from trainers.models.nets import MetaController, RegimeDetection, StrategySignals
from trainers.models.objectives import (
    WINDOW,
    MetaSettings,
    Rows,
    TrainingSet,
    consecutive,
    in_deviations,
    meta_loss,
    regime_loss,
    signal_loss,
)
from trainers.models.regime_teacher import Teacher
from trainers.training.checkpoint import Checkpoints
from trainers.training.loop import Fitted, LoopSettings, Task, TrainingStep, batches, device, fit

#: The last share of the training rows is not fitted on: it ends a training early and calibrates the student.
VALIDATION = 0.15


class FoldSettings(Struct, frozen=True):
    """How the models of a fold are trained.

    Attributes:
        seed: of everything random.
        teacher: hmm, mixture, or auto.
        loop, meta: of the training loop, and of the objectives.
        costs: of trading.
    """

    seed: int = 7
    teacher: str = "auto"
    loop: LoopSettings = LoopSettings()
    meta: MetaSettings = MetaSettings()
    costs: Costs = Costs()


class Answers(Struct, frozen=True):
    """Of n rows: float64 [n, 3], [n, 7], [n, 7] and [n]."""

    probabilities: FloatArray
    signals: FloatArray
    weights: FloatArray
    target: FloatArray


class Fold(Struct):
    """The models of one split.

    Attributes:
        name: of its stages.
        split: its rows.
        teacher, regime, signals, meta: the models; the networks on the CPU.
        fitted: by model, how its training went.
        filtered: float64 [n, 3], what the teacher says of every row of the dataset.
        answers: of the test rows.
    """

    name: str
    split: Split
    teacher: Teacher
    regime: RegimeDetection
    signals: StrategySignals
    meta: MetaController
    fitted: dict[str, Fitted]
    filtered: FloatArray
    answers: Answers


def train_fold(
    name: str,
    data: Dataset,
    split: Split,
    settings: FoldSettings,
    before: Teacher | None,
    checkpoints: Checkpoints | None,
    progress: Callable[[TrainingStep], None],
) -> Fold:
    """Train a split's models, or take up what a checkpoint holds.

    Args:
        name: of the fold.
        data: all rows; models see those of `split.train` only.
        split: rows with labels.
        settings: of the training.
        before: the teacher whose regimes' names are kept.
        checkpoints: where each stage's result is kept.
        progress: called after each step.

    Raises:
        ConfigurationError: the training rows are too few to be cut in windows.
    """
    where = device()
    observations = regime_teacher.observe(data)
    train, held = cut(data, split.train)
    progress(TrainingStep(f"{name} teacher", 0, 1, 0.0))
    teacher = regime_fits.fit(observations[train], data.symbols[train], settings.seed, settings.teacher, before)
    filtered = teacher.filtered(observations, data.symbols)
    fitting = gather(data, train, filtered, settings.costs, where)
    checking = gather(data, held, filtered, settings.costs, where)
    stages = _Stages(name, settings, checkpoints, progress)

    regime, signals, meta = learn_models(stages, settings, fitting, checking, where)
    answers = ask(regime, signals, meta, data.features, split.test)
    return Fold(name, split, teacher, regime.cpu(), signals.cpu(), meta.cpu(), stages.fitted, filtered, answers)


def learn_models(
    stages: _Stages, settings: FoldSettings, fitting: TrainingSet, checking: TrainingSet, where: torch.device
) -> tuple[RegimeDetection, StrategySignals, MetaController]:
    """Regimes, then the specialists, then what weighs them by both; each is kept before the next begins."""
    regime = stages.make(lambda: RegimeDetection(fitting.features.sample()).to(where))
    learn = regime_loss(regime, fitting, settings.meta.smoothness)
    check = regime_loss(regime, checking, settings.meta.smoothness)
    stages.fit("regime_detection", regime, learn, check, len(fitting.windows), len(checking.windows))
    calibrate(regime, checking)

    signals = stages.make(lambda: StrategySignals(fitting.features.sample()).to(where))
    stages.fit(
        "strategy_signals", signals, signal_loss(signals, fitting), signal_loss(signals, checking), len(fitting),
        len(checking),
    )  # fmt: skip

    meta = stages.make(lambda: MetaController(fitting.features.sample()).to(where))
    seen, told = answers_for(regime, signals, fitting), answers_for(regime, signals, checking)
    stages.fit(
        "meta_controller", meta, meta_loss(meta, fitting, *seen, settings.meta),
        meta_loss(meta, checking, *told, settings.meta), len(fitting.windows), len(checking.windows),
    )  # fmt: skip
    return regime, signals, meta


class _Stages:
    """Trainings of a fold, one behind another, each kept when it is done."""

    def __init__(
        self,
        name: str,
        settings: FoldSettings,
        checkpoints: Checkpoints | None,
        progress: Callable[[TrainingStep], None],
    ) -> None:
        self._name, self._settings, self._checkpoints, self._progress = name, settings, checkpoints, progress
        self.fitted: dict[str, Fitted] = {}

    def make(self, maker: Callable[[], Any]) -> Any:
        """A network whose first weights depend on the seed alone."""
        torch.manual_seed(self._settings.seed)
        return maker()

    def fit(
        self,
        model: str,
        module: nn.Module,
        loss: Callable[[Tensor], Tensor],
        check: Callable[[Tensor], Tensor],
        count: int,
        checks: int,
    ) -> None:
        """Train a module; `count` and `checks` are how many rows (or windows) there are to train and check on."""
        stage = f"{self._name}-{model}"
        kept = None if self._checkpoints is None else self._checkpoints.load(stage)
        if kept is not None:
            module.load_state_dict(kept["module"])
            module.eval()
            self.fitted[model] = Fitted(**kept["fitted"])
            return
        loop = self._settings.loop
        # What is counted in windows has as many rows a step.
        size = loop.batch_size if model == "strategy_signals" else max(1, loop.batch_size // WINDOW)
        sized = LoopSettings(**{**{f: getattr(loop, f) for f in loop.__struct_fields__}, "batch_size": size})
        task = Task(stage, module, count, loss, (lambda: mean_loss(check, checks)) if checks else None)
        found = fit(task, sized, self._checkpoints, self._progress)
        self.fitted[model] = found
        if self._checkpoints is not None:
            fields = {f: getattr(found, f) for f in found.__struct_fields__}
            self._checkpoints.save(stage, {"module": module.state_dict(), "fitted": fields})
            self._checkpoints.drop(f"{stage}.progress")


def cut(data: Dataset, rows: Int64Array) -> tuple[Int64Array, Int64Array]:
    """Training rows in those that are fitted on and, later and purged, those that are checked on."""
    begin = np.quantile(data.time_ns[rows], 1.0 - VALIDATION, method="nearest")
    early = rows[data.labels.end_ns[rows] < begin]
    late = rows[data.time_ns[rows] >= begin]
    windows = [len(consecutive(data.symbols[part])) if len(part) else 0 for part in (early, late)]
    if windows[0] == 0:
        raise ConfigurationError(
            f"no symbol has {WINDOW} training rows with a label: give more ticks or a shorter horizon"
        )
    return early, late if windows[1] else late[:0]


def gather(data: Dataset, rows: Int64Array, filtered: FloatArray, costs: Costs, where: torch.device) -> TrainingSet:
    """What is trained on, of some rows."""

    def move(values: FloatArray | Float32Array) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values, np.float32)).to(where)

    labels, deviation = data.labels, data.labels.deviation[rows]
    weight = labels.uniqueness[rows]
    windows = consecutive(data.symbols[rows]) if len(rows) else np.empty((0, WINDOW), np.int64)
    return TrainingSet(
        features=Rows(data.features, rows, where),
        forward=move(in_deviations(labels.realised[rows], deviation)),
        side=move(labels.side[rows].astype(np.float32)),
        next_return=move(in_deviations(labels.next_log_return[rows], deviation)),
        cost=move(in_deviations(costs.unit(data.half_spread[rows]), deviation)),
        weight=move(weight / max(float(weight.mean()) if len(weight) else 1.0, 1e-12)),
        teacher=move(filtered[rows]),
        windows=torch.from_numpy(windows).to(where),
    )


def mean_loss(loss: Callable[[Tensor], Tensor], count: int) -> float:
    """The mean of a loss over `count` places, in parts."""
    parts = list(batches(count, 4096))
    return (
        sum(float(loss(torch.arange(part.start, part.stop))) * (part.stop - part.start) for part in parts) / count
    )


def calibrate(regime: RegimeDetection, data: TrainingSet) -> None:
    """Set the student's temperature on rows that it was not fitted on."""
    if not len(data):
        return
    with torch.no_grad():
        regime.temperature.fill_(1.0)
        logits = torch.cat(
            [regime.logits(data.features(torch.arange(p.start, p.stop))) for p in batches(len(data))]
        )
    told, truth = (values.cpu().numpy().astype(np.float64) for values in (logits, data.teacher))
    regime.temperature.fill_(calibration.temperature(told, truth))


def answers_for(regime: RegimeDetection, signals: StrategySignals, data: TrainingSet) -> tuple[Tensor, Tensor]:
    """Probabilities [n, 3] and signals [n, 7] of a set's rows, without gradients."""
    seen, told = [], []
    with torch.no_grad():
        for part in batches(len(data)):
            features = data.features(torch.arange(part.start, part.stop))
            seen.append(regime(features))
            told.append(signals(features))
    if not seen:
        return data.teacher, torch.empty((0, 0))
    return torch.cat(seen), torch.cat(told)


def ask(
    regime: RegimeDetection,
    signals: StrategySignals,
    meta: MetaController,
    features: Float32Array,
    rows: Int64Array,
) -> Answers:
    """What the three models say of rows, as the ensemble would, on the device where they are."""
    where, parts = regime.temperature.device, []
    with torch.inference_mode():
        for part in batches(len(rows)):
            x = torch.from_numpy(np.asarray(features[rows[part]])).to(where)
            p, s = regime(x), signals(x)
            w, target = meta(x, p, s)
            parts.append([t.cpu().numpy().astype(np.float64) for t in (p, s, w, target[:, 0])])
    return Answers(*(np.concatenate(column) for column in zip(*parts, strict=True)))
