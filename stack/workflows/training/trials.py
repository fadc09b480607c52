"""Searches and queues of experiments, logged in MLflow as nested runs."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import yaml
from msgspec import Struct
from msgspec.structs import replace

from stack.servers.settings import load
from stack.workflows.training.settings import TrainRequest
from stack.workflows.training.train import TrainReport, dataset_of, train
from trading.errors import ConfigurationError

if TYPE_CHECKING:
    from trainers.trials.search import SearchResult, SearchSettings
    from trainers.trials.trial_runner import TrialOutcome, TrialRunner

Progress = Callable[[str, int, int], None]


class SearchReport(Struct, frozen=True):
    """What a search found, and the training of the best, judged on the hold-out."""

    study: str
    found: SearchResult
    training: TrainReport


class Experiment(TrainRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A request with a name."""

    name: str


def runner_for(jobs: int, memory: str | None) -> TrialRunner:
    """A runner with a budget. Raises ConfigurationError."""
    from trainers.memory_budget import parse_bytes
    from trainers.trials.trial_runner import TrialRunner

    return TrialRunner(jobs, None if memory is None else parse_bytes(memory))


def search(request: TrainRequest, settings: SearchSettings, memory: str | None, progress: Progress) -> SearchReport:
    """Search, then train and register the best.

    Raises:
        UltraThinkError: see `search.search` and `train`.
    """
    from trainers.code_version import digest
    from trainers.data import manifest
    from trainers.registry import aliases, tracking
    from trainers.trials.search import search as run
    from trainers.trials.search import settings_of

    runner, home = runner_for(settings.jobs, memory), load().absolute_home
    aliases.connect(request.mlflow_uri or load().mlflow_uri)
    folder = dataset_of(request, home, progress)
    rows = manifest.read(folder)
    base = request.settings()
    # Trials of other costs, settings or code are trials of something else.
    told_from = msgspec.json.encode((rows.dataset_hash, base, settings.hold_out, digest()))
    study = hashlib.sha256(told_from).hexdigest()[:16]
    done, lock = 0, threading.Lock()
    with tracking.training(f"search {rows.named}"[:250], rows, str(folder)) as parent:

        def told(number: int, parameters: dict[str, Any], outcome: TrialOutcome) -> None:
            nonlocal done
            with lock:
                done += 1
                progress(f"trials of {rows.named}", done, settings.trials)
                log_experiment(parent, f"trial {number}", parameters, outcome)

        found = run(study, folder, base, settings, home / "searches" / f"{study}.journal", runner, told)
    best = settings_of(found.parameters, base)
    tried = found.complete + found.pruned
    judged = replace(best, folds=1, first_test=1.0 - settings.hold_out, trials=tried)
    training = train(
        replace(request, data=(str(folder),), bars="ticks", horizon=None, limit=None), progress, judged
    )
    return SearchReport(study, found, training)


def log_experiment(parent: str, name: str, parameters: dict[str, Any], outcome: TrialOutcome) -> None:
    """A nested run for one experiment."""
    from trainers.registry import tracking

    metrics = {"seconds": outcome.seconds, "peak_memory_mb": outcome.peak_bytes / 2**20}
    if outcome.result is not None:
        metrics["mean_t"] = outcome.result.value
        metrics.update({f"fold{f.fold}_t": f.t_statistic for f in outcome.result.folds})
    tracking.log_trial(parent, name, {**parameters, "outcome": outcome.why[:400] or "finished"}, metrics)


#: Of a single training, not of one in a queue.
NOT_QUEUED = ("groups", "tested", "limits", "fresh", "mlflow_uri")


def as_path(kind: type, value: object) -> object:
    """A path as YAML has it."""
    if kind is Path and isinstance(value, str):
        return Path(value)
    raise ValueError(f"{value!r} is no {kind.__name__}")


def read_experiments(file: Path) -> list[Experiment]:
    """Experiments of a YAML file. Raises ConfigurationError."""
    try:
        told = yaml.safe_load(file.read_bytes())
        # One source may be written without a list.
        for one in told if isinstance(told, list) else []:
            if isinstance(one, dict) and isinstance(one.get("data"), str):
                one["data"] = [one["data"]]
        found = msgspec.convert(told, list[Experiment], strict=False, dec_hook=as_path)
    except FileNotFoundError as error:
        raise ConfigurationError(f"{file} does not exist") from error
    except (OSError, yaml.YAMLError, msgspec.ValidationError, RecursionError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{file} is no list of experiments: {error}") from error
    for one in found:
        unheard = [name for name in NOT_QUEUED if getattr(one, name) != getattr(TrainRequest(), name)]
        if unheard:
            raise ConfigurationError(f"{file}: {one.name}: a queue does not heed {', '.join(unheard)}")
    names = [one.name for one in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice or not found:
        raise ConfigurationError(f"{file}: {', '.join(twice)} comes twice" if twice else f"{file} is empty")
    return found


def run_queue(
    file: Path, jobs: int, memory: str | None, mlflow_uri: str | None, progress: Progress
) -> list[TrialOutcome]:
    """Run the experiments of a file: each trains and tests every fold; nothing is registered.

    Raises:
        UltraThinkError: the file is none, a source cannot be read, MLflow does not answer.
    """
    from trainers import memory_budget
    from trainers.data import manifest
    from trainers.registry import aliases, tracking
    from trainers.trials.worker import Spec

    wanted, runner, home = read_experiments(file), runner_for(jobs, memory), load().absolute_home
    aliases.connect(mlflow_uri or load().mlflow_uri)
    folders: dict[Any, Path] = {}
    specs = []
    for one in wanted:
        key = (one.data, one.bars, one.horizon, one.limit)
        if key not in folders:
            folders[key] = dataset_of(one, home, progress)
        ceiling = None if one.memory is None else memory_budget.parse_bytes(one.memory)
        specs.append(Spec(one.name, str(folders[key]), one.settings(), memory_bytes=ceiling))
    done, lock = 0, threading.Lock()
    first = next(iter(folders.values()))
    with tracking.training(f"queue {file.name}", manifest.read(first), str(first)) as parent:

        def told(outcome: TrialOutcome) -> None:
            nonlocal done
            with lock:
                done += 1
                progress("experiments", done, len(specs))
                log_experiment(parent, outcome.name, {}, outcome)

        return runner.run(specs, told)
