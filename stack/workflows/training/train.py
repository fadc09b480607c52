"""From a SOURCE or a dataset to three registered challengers, with their evidence."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from connectors.mlflow_address import refuse_silent
from stack.servers.settings import load
from stack.workflows.training.settings import TrainRequest
from trading.errors import ConfigurationError
from trading.files import write_atomically
from trading.risk.limits import LimitSet

if TYPE_CHECKING:
    from trainers.data.dataset import Dataset
    from trainers.data.manifest import Manifest
    from trainers.models.regime_teacher import Teacher
    from trainers.training.checkpoint import Checkpoints
    from trainers.walk_forward import Trained, TrainSettings

HEADLINES = {
    "regime_detection": ("agreement", "calibration_error", "disruption_mean"),
    "strategy_signals": ("ic_momentum", "ic_mean_reversion", "ic_breakout", "ic_volatility_carry"),
    "meta_controller": ("mean_bps", "t_statistic", "deflated_sharpe", "equal_weights_t_statistic",
                        "buy_and_hold_t_statistic"),
}  # fmt: skip


class TrainedReport(Struct, frozen=True):
    """A registered model and its main figures, out of sample."""

    name: str
    version: str
    run_id: str
    headline: dict[str, float]


class TrainReport(Struct, frozen=True):
    """What a training did; nothing at or after `out_of_sample_from_ns` was learned from.

    Attributes:
        source, dataset: what it learned from, and the folder where that lies.
        rows, dropped: rows of the dataset, and lines of the sources that were no ticks.
        data_hash: names the ticks.
        verdict: one sentence.
        edge: whether an edge survives costs.
        resumed: what was found of a training that had been killed; empty where there was none.
        run_id: of the training in MLflow; the models have runs within it.
        sheet: the tear sheet's path.
        models: registered as challengers.
    """

    source: str
    dataset: str
    rows: int
    dropped: int
    data_hash: str
    out_of_sample_from_ns: int
    verdict: str
    edge: bool
    resumed: str
    run_id: str
    sheet: str
    models: list[TrainedReport]


def train(
    request: TrainRequest,
    progress: Callable[[str, int, int], None],
    settings: TrainSettings | None = None,
    tags: Mapping[str, str] | None = None,
) -> TrainReport:
    """As `_train`; memory that runs out anywhere is a sentence."""
    from trainers import memory_budget
    from trainers.training.loop import DoesNotFit

    try:
        return _train(request, progress, settings, tags or {})
    except (MemoryError, RuntimeError) as error:
        if not memory_budget.is_out_of_memory(error):
            raise
        raise DoesNotFit(
            f"memory ran out ({str(error)[:150] or 'no more is to be had'}): give a larger budget (--memory), "
            "or fewer rows"
        ) from error


def _train(
    request: TrainRequest,
    progress: Callable[[str, int, int], None],
    settings: TrainSettings | None,
    tags: Mapping[str, str],
) -> TrainReport:
    """Train, evaluate and register the three models.

    Args:
        request: what to train from and with.
        progress: called with a stage and how much of what total it has done; a total of 0 is unknown.
        settings: of the training; default: those of the request.
        tags: of each version and its run, beside the evidence; a version with the same is taken as it is, so that
            nothing is registered twice for one who asks twice.

    Raises:
        UltraThinkError: see `build`, `open_dataset`, `train_all` and `tracking`.
    """
    # Before the work, not after it: what is missing must not cost a training, nor the loading of its libraries.
    mlflow_uri, limits = begun(request)
    from trainers.data.dataset import open_dataset
    from trainers.registry import aliases
    from trainers.training.checkpoint import Checkpoints
    from trainers.walk_forward import identity

    settings, home = settings or request.settings(), load().absolute_home
    aliases.connect(mlflow_uri)
    folder = dataset_of(request, home, progress)
    data = open_dataset(folder, lambda stage, n: progress(stage, n, 0))
    checkpoints = Checkpoints(home / "training", identity(data, settings))
    resumed = checkpoints.open(fresh=request.fresh)
    finished = False
    try:
        run_id, trained, registered = train_logged(data, folder, settings, checkpoints, limits, progress, tags)
        finished = True
    finally:
        checkpoints.close(finished=finished)
    sheet = home / "reports" / f"{run_id}.html"
    write_atomically(sheet, trained.sheet)
    manifest = data.manifest
    return TrainReport(
        source=manifest.named, dataset=str(folder), rows=manifest.rows,
        dropped=sum(source.dropped for source in manifest.sources), data_hash=manifest.data_hash,
        out_of_sample_from_ns=trained.trained_until_ns, verdict=trained.evaluation.verdict,
        edge=trained.evaluation.edge, resumed=resumed, run_id=run_id, sheet=str(sheet), models=registered,
    )  # fmt: skip


def begun(request: TrainRequest) -> tuple[str, LimitSet | None]:
    """MLflow's address, where somebody listens, and limits for the backtest; memory is bounded from now on.

    Raises ConfigurationError, ServiceUnavailable.
    """
    from trainers import memory_budget

    request.check()
    mlflow_uri, limits = request.mlflow_uri or load().mlflow_uri, read_limits(request.limits)
    if request.memory is not None:
        memory_budget.limit_memory(memory_budget.parse_bytes(request.memory))
    refuse_silent(mlflow_uri)
    return mlflow_uri, limits


def train_logged(
    data: Dataset,
    folder: Path,
    settings: TrainSettings,
    checkpoints: Checkpoints,
    limits: LimitSet | None,
    progress: Callable[[str, int, int], None],
    more: Mapping[str, str],
) -> tuple[str, Trained, list[TrainedReport]]:
    """Train within one run of MLflow, taken up again after a kill; its id, what was learned and registered."""
    from trainers.registry import tracking
    from trainers.training.loop import TrainingStep
    from trainers.walk_forward import train_all

    told = checkpoints.folder / "run_id"
    open_run = told.read_text().strip() if told.is_file() else None
    with tracking.training(f"train {data.manifest.named}"[:250], data.manifest, str(folder), open_run) as run_id:
        told.write_text(run_id)
        steps = 0

        def show(step: TrainingStep) -> None:
            nonlocal steps
            progress(step.stage, step.done, step.total)
            steps += 1
            if steps % 50 == 0:
                tracking.log_step(f"loss/{step.stage}", step.loss, step.done)

        before = names_before(checkpoints.folder)
        trained = train_all(data, settings, show, checkpoints, limits, before)
        tags = {**evidence_tags(run_id, trained, data.manifest.dataset_hash, settings, limits), **more}
        return run_id, trained, register(trained, data.manifest, tags, progress, more)


def register(
    trained: Trained,
    manifest: Manifest,
    tags: dict[str, str],
    progress: Callable[[str, int, int], None],
    known_by: Mapping[str, str],
) -> list[TrainedReport]:
    """Log the three models and the evaluation within the open run; register each as challenger.

    One that is there with the tags `known_by` is left as it is.
    """
    from trainers.registry import champions, tracking

    registered = []
    for model in trained.models:
        there = champions.tagged(model.signature.name, known_by) if known_by else None
        if there is not None:
            registered.append(
                TrainedReport(there.name, there.version, there.run_id, headline_of(there.name, there.metrics))
            )
            continue
        progress(f"log {model.signature.name} to MLflow", 0, 0)
        logged = tracking.log(model, manifest, tags)
        headline = headline_of(logged.name, model.metrics)
        registered.append(TrainedReport(logged.name, logged.version, logged.run_id, headline))
    meta = trained.models[-1]
    tracking.log_summary(meta.parameters, meta.metrics, trained.sheet)
    return registered


def headline_of(name: str, metrics: Mapping[str, float]) -> dict[str, float]:
    """A model's main figures."""
    return {k: float(metrics[k]) for k in HEADLINES[name] if k in metrics}


def evidence_tags(
    run_id: str, trained: Trained, dataset_hash: str, settings: TrainSettings, limits: LimitSet | None
) -> dict[str, str]:
    """What promotion asks of a version, beside its metrics."""
    return {
        "training": run_id,
        "verdict": trained.evaluation.verdict[:500],
        "edge": str(trained.evaluation.edge).lower(),
        "costs_bps": f"{settings.fold.costs.traded_bps:g}",
        "judged_by": judged_by(dataset_hash, settings, limits),
    }


def judged_by(dataset_hash: str, settings: TrainSettings, limits: LimitSet | None) -> str:
    """Names the test: models with the same one were tested on the same rows, at the same costs and limits."""
    told = (dataset_hash, settings.folds, settings.first_test, settings.embargo, settings.fold.costs,
            None if limits is None else limits.version)  # fmt: skip
    return hashlib.sha256(msgspec.json.encode(told)).hexdigest()[:16]


def names_before(folder: Path) -> Teacher | None:
    """The teacher whose regimes' names are kept: the one that was in service when this training first began."""
    from trading.files import replace_file
    from trainers.registry import champions
    from trainers.walk_forward import as_plain, from_plain

    path = folder / "before.json"
    if path.is_file():
        told = msgspec.json.decode(path.read_bytes())
        return None if told is None else from_plain(told)
    found = champions.teacher_in_service()
    replace_file(path, msgspec.json.encode(None if found is None else as_plain(found)))
    return found


def read_limits(path: Path | None) -> LimitSet | None:
    """A file of limits for the backtest; None takes those for research."""
    if path is None:
        return None
    from trading.risk import limits_file

    return LimitSet(limits_file.read(path))


def dataset_of(request: TrainRequest, home: Path, progress: Callable[[str, int, int], None]) -> Path:
    """The folder of the dataset: the one that was named, or one that is built anew from the sources.

    A built one lies in the stack's home under a name of its sources and settings, so that the run in MLflow says
    where its rows are; building the same again replaces it.
    """
    from trading.history import open_source
    from trainers.data.build import build

    if len(request.data) == 1 and Path(request.data[0]).is_dir():
        if request.given_build_options():
            raise ConfigurationError(
                f"{request.data[0]} is a dataset: its bars, horizon and limit were chosen when it was built"
            )
        return Path(request.data[0]).resolve()
    settings = request.build_settings()
    key = hashlib.sha256(msgspec.json.encode((request.data, settings))).hexdigest()[:12]
    folder = home / "datasets" / key
    sources = [open_source(spec) for spec in request.data]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".new-") as new:
        build(sources, settings, Path(new) / "dataset", lambda stage, n: progress(f"{stage} {request.named}", n, 0))
        put(Path(new) / "dataset", folder)
    return folder


def put(new: Path, folder: Path) -> None:
    """Put a dataset in its place; one with the same rows stays, for others may be reading it."""
    from trainers.data import manifest

    try:
        same = manifest.read(folder).dataset_hash == manifest.read(new).dataset_hash
    except ConfigurationError:
        same = False
    if same:
        return
    if folder.exists():
        folder.rename(new.parent / "old")
    new.rename(folder)
