"""Searching hyperparameters: Optuna, resumable, never looking at the rows that judge the result.

The last share of the time is held out. Trials are scored on walk-forward folds of the time before it, by the
t-statistic of the net return; one that does worse than the median of the others after a fold is ended. The best
is then trained on everything before the hold-out and tested on it, once, and the number of trials deflates its
Sharpe ratio.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
from msgspec import Struct
from msgspec.structs import replace
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import Trial, TrialState
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from trading.errors import ConfigurationError, ServiceUnavailable
from trainers.trials.trial_runner import TrialOutcome, TrialRunner
from trainers.trials.worker import FoldResult, Spec
from trainers.walk_forward import TrainSettings

HOLD_OUT = 0.25
INNER_FOLDS = 2
#: Trials that are not pruned: until then there is no median worth the name.
WARM_UP_TRIALS = 5
#: Where a shared study lies, and whose a trial of it is.
SCHEMA, OWNER = "optuna", "owner"


class SearchSettings(Struct, frozen=True):
    """`trials` in all, those of an earlier run of the same study counted; `jobs` at once."""

    trials: int = 20
    jobs: int = 2
    hold_out: float = HOLD_OUT
    threads: int = 1


class SearchResult(Struct, frozen=True):
    """What a search came to: the best trial, its value and parameters, and counts of all trials by state."""

    number: int
    value: float
    parameters: dict[str, float | int | str]
    complete: int
    pruned: int
    failed: int


def suggest(trial: Trial, base: TrainSettings) -> TrainSettings:
    """The settings of a trial."""
    fold = base.fold
    loop = replace(
        fold.loop,
        learning_rate=trial.suggest_float("learning_rate", 3e-4, 1e-2, log=True),
        weight_decay=trial.suggest_float("weight_decay", 1e-6, 1e-2, log=True),
        batch_size=trial.suggest_categorical("batch_size", [512, 1024, 2048]),
        epochs=trial.suggest_int("epochs", 2, 8),
    )
    meta = replace(
        fold.meta,
        entropy_bonus=trial.suggest_float("entropy_bonus", 1e-4, 3e-2, log=True),
        turnover_penalty=trial.suggest_float("turnover_penalty", 0.0, 3.0),
        smoothness=trial.suggest_float("smoothness", 0.0, 8.0),
    )
    return replace(base, fold=replace(fold, loop=loop, meta=meta), folds=INNER_FOLDS)


def settings_of(parameters: dict[str, Any], base: TrainSettings) -> TrainSettings:
    """The settings that parameters mean, to be judged on the hold-out alone."""
    return suggest(optuna.trial.FixedTrial(parameters), base)  # type: ignore[arg-type]


def search(
    name: str,
    dataset: Path,
    base: TrainSettings,
    settings: SearchSettings,
    journal: Path,
    runner: TrialRunner,
    told: Callable[[int, dict[str, Any], TrialOutcome], None],
) -> SearchResult:
    """Run trials until there are `settings.trials`, going on where an earlier run stopped.

    Args:
        name: of the study.
        dataset: folder.
        base: what the trials vary.
        settings: of the search.
        journal: file of the study, appended to: a kill loses the trials that were running, no others.
        runner: of experiments.
        told: called as each trial ends, with its number, its parameters, and what became of it.

    Raises:
        ConfigurationError: no trial finished.
    """
    study = open_study(name, journal, base.fold.seed)
    lock = threading.Lock()
    left = settings.trials - len([t for t in study.trials if t.state in {TrialState.COMPLETE, TrialState.PRUNED}])
    trials: dict[str, Trial] = {}

    def prune(experiment: str, fold: FoldResult) -> bool:
        with lock:
            trial = trials[experiment]
            trial.report(fold.t_statistic, fold.fold)
            return fold.fold < INNER_FOLDS and trial.should_prune()

    def one(_: int) -> None:
        with lock:
            trial = study.ask()
            spec = Spec(f"trial {trial.number}", str(dataset), suggest(trial, base), settings.hold_out,
                        threads=settings.threads)  # fmt: skip
            trials[spec.name] = trial
        outcome = runner.one(spec, prune)
        with lock:
            state = (
                TrialState.PRUNED if outcome.pruned else TrialState.COMPLETE if outcome.result else TrialState.FAIL
            )
            study.tell(trial, outcome.result.value if outcome.result else None, state)
            told(trial.number, dict(trial.params), outcome)

    runner.each(range(max(0, left)), one)
    return found_in(study, name)


def open_study(name: str, journal: Path, seed: int) -> optuna.Study:
    """The study of a journal, new or gone on with."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    journal.parent.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(
        study_name=name, direction="maximize", load_if_exists=True,
        storage=JournalStorage(JournalFileBackend(str(journal))),
        sampler=optuna.samplers.TPESampler(seed=seed, constant_liar=True),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=WARM_UP_TRIALS),
    )  # fmt: skip
    retire(study)
    return study


def open_shared(name: str, url: str, seed: int) -> optuna.Study:
    """A study that many processes, on many machines, work on: it lies in PostgreSQL, in a schema of Optuna's own.

    What a killed process left open stays so, until whoever does its work anew takes it up: see `taken_up`.

    Args:
        name: of the study.
        url: of the database, as its owner.
        seed: of the sampler; each process draws with its own besides, or all would draw the same.

    Raises:
        ServiceUnavailable: PostgreSQL does not answer.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    address = make_url(url).set(drivername="postgresql+psycopg")
    options = {"connect_args": {"options": f"-c search_path={SCHEMA}", "connect_timeout": 5}, "poolclass": NullPool}
    try:
        storage = optuna.storages.RDBStorage(
            address.render_as_string(hide_password=False), engine_kwargs=options, skip_compatibility_check=False
        )
        return optuna.create_study(
            study_name=name, direction="maximize", load_if_exists=True, storage=storage,
            sampler=optuna.samplers.TPESampler(seed=seed, constant_liar=True),
            pruner=optuna.pruners.MedianPruner(n_startup_trials=WARM_UP_TRIALS),
        )  # fmt: skip
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        raise ServiceUnavailable(f"the study {name} cannot be opened: {type(error).__name__}") from None


def taken_up(study: optuna.Study, owner: str) -> Trial:
    """The trial that this owner began and has not ended; a new one where there is none."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if trial.user_attrs.get(OWNER) == owner:
            return Trial(study, trial._trial_id)  # noqa: SLF001 - Optuna has no other way to go on with one
    made = study.ask()
    made.set_user_attr(OWNER, owner)
    return made


def tell(study: optuna.Study, trial: Trial, value: float) -> None:
    """A trial is done; whoever says it again, after a kill, changes nothing."""
    study.tell(trial.number, value, TrialState.COMPLETE, skip_if_finished=True)


def found_in(study: optuna.Study, name: str) -> SearchResult:
    """The best trial, and what became of all. Raises ConfigurationError where none finished."""
    done = [t for t in study.trials if t.state is TrialState.COMPLETE]
    if not done:
        raise ConfigurationError(f"no trial of {name} finished: look at what each said")
    best = study.best_trial
    states = [t.state for t in study.trials]
    return SearchResult(
        best.number, float(best.value or 0.0), dict(best.params), states.count(TrialState.COMPLETE),
        states.count(TrialState.PRUNED), states.count(TrialState.FAIL),
    )  # fmt: skip


def retire(study: optuna.Study) -> None:
    """Trials that a killed run left open have failed."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
