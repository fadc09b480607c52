"""An update, with the evidence that every model needs: the same gates look at it as at a training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from msgspec import Struct

from stack.workflows.training.train import evidence_tags, register
from trainers.data.dataset import Dataset
from trainers.data.splits import Split
from trainers.evaluation import evaluate, regime_report
from trainers.online.bounds import UpdateSettings
from trainers.online.networks import Networks
from trainers.online.update import Refused, Updated, update
from trainers.orchestrator.step import StepRejected
from trainers.registry import champions, tracking
from trainers.registry.promotion import PIPELINE
from trainers.training.fold import Fold, FoldSettings
from trainers.training.loop import Fitted, LoopSettings
from trainers.walk_forward import TrainSettings, package


class UpdateReport(Struct, frozen=True):
    """The run in MLflow, the versions by model, and what the held rows said."""

    run_id: str
    models: dict[str, str]
    verdict: str
    edge: bool


def stepped(
    champion: Networks, data: Dataset, settings: UpdateSettings, progress: Callable[[str, int, int], None]
) -> Updated:
    """An update that was a step forward.

    Raises:
        StepRejected: the rows are refused, or it was none on the newest ripe rows.
    """
    try:
        found = update(champion, data, settings, lambda step: progress(step.stage, step.done, step.total))
    except Refused as error:
        raise StepRejected(f"these rows are not learned from: {error}") from error
    if not found.gain > 0.0:
        raise StepRejected(f"it is no step forward: {found.sentence}")
    return found


def registered(
    champion: Networks,
    data: tuple[Dataset, Path],
    found: Updated,
    settings: UpdateSettings,
    tags: Mapping[str, str],
    progress: Callable[[str, int, int], None],
) -> UpdateReport:
    """Evidence of the held rows, and three challengers in MLflow; those of an earlier attempt stay as they are.

    Args:
        champion: from where the step began: regimes keep its names.
        data: the rows, and where they lie.
        found: the update.
        settings: of it.
        tags: of run and versions; whoever has the same was made by an earlier attempt.
        progress: told what is done.

    Raises:
        ServiceUnavailable: MLflow does not answer.
    """
    rows, folder = data
    fold = Fold(
        "update", Split(found.parts.fresh, found.parts.held, int(rows.time_ns[found.parts.held].min())),
        champion.teacher, found.networks.regime, found.networks.signals, found.networks.meta, fitted(found),
        found.filtered, found.answers,
    )  # fmt: skip
    asked = TrainSettings(
        FoldSettings(
            settings.seed, champion.teacher.kind,
            LoopSettings(epochs=1, batch_size=settings.batch_rows, learning_rate=settings.learning_rate,
                         seed=settings.seed),
            costs=settings.costs,
        ),
        folds=1,
    )  # fmt: skip
    report = regime_report.report(rows, fold, champion.teacher)
    trained = package(rows, asked, [fold], [report], evaluate.evaluate(rows, [fold], settings.costs), ())
    manifest = rows.manifest
    # What an earlier attempt has registered belongs to one training with the rest.
    there = champions.tagged(PIPELINE[0], tags)
    before = None if there is None else there.tags.get("training") or None
    named = f"update from {manifest.named}"[:250]
    with tracking.training(named, manifest, str(folder), before) as run_id:
        told = {**evidence_tags(run_id, trained, manifest.dataset_hash, asked, None), **tags}
        reports = register(trained, manifest, told, progress, tags)
    models = {one.name: one.version for one in reports}
    return UpdateReport(run_id, models, trained.evaluation.verdict, trained.evaluation.edge)


def fitted(found: Updated) -> dict[str, Fitted]:
    """How its steps went, as a training tells it: mean losses of the first and of the last tenth."""
    return {name: Fitted(list(losses), [], 1, 1) for name, losses in found.losses.items()}
