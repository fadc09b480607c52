"""How a comparison ends: what is better serves, and is watched; whatever else others saw is put back."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from exporters.errors import Busy, ExportError
from stack.processes.settings import experiments_settings, gateway_settings
from stack.workflows.asking import ModelPlace, place_of_experiments
from stack.workflows.experiments import commanding
from stack.workflows.experiments.kept import known
from stack.workflows.experiments.promoting import promote, served
from stack.workflows.orchestrator.asked import ARM, RUN, read
from stack.workflows.orchestrator.asked_lived import GuardSpec
from stack.workflows.orchestrator.comparing import BY, name_of, say
from stack.workflows.orchestrator.going_back import was_released
from stack.workflows.orchestrator.guarding import wanted
from stack.workflows.orchestrator.learning import candidate_of, trained_by
from trading.errors import ConfigurationError, ServiceUnavailable
from trading.experiments.definition import ServedModel
from trading.experiments.register import ExperimentState, ExperimentWord
from trainers.orchestrator.cycle import Verdict
from trainers.orchestrator.runs import RunRequest
from trainers.orchestrator.step import NotYet, StepContext, StepRejected

AGAIN_S = 5.0
#: Later with each, five minutes at most: some four hours.
MOST_ATTEMPTS = 50


def promote_challenger(context: StepContext) -> dict[str, Any]:
    """Release it through the exporters' gates, and name its models champions in MLflow.

    As soon as it serves it is watched, whatever is left to be done, by this attempt or by one that found it served.

    Raises:
        StepRejected: something speaks against it, or it was taken back.
        ConfigurationError: it serves, and nobody can watch over it.
        ServiceUnavailable, NotYet: not now.
    """
    place, exported = place_of_experiments()[0], context.output("export")
    challenger = ServedModel(exported["model"], exported["version"])
    champion = served_model(context.output("release")["champion"])
    context.check()
    released = served(place, challenger.model)
    serves = released == challenger.version
    if was_released(place, challenger) and not serves:
        # An earlier attempt has released it, and it was taken back, or something else was released since.
        raise StepRejected(f"{challenger} was promoted, and version {released} serves by now, which stays")
    try:
        # Before anything is released: the way back must be known.
        watch = wanted(context, challenger, champion)
    except ExportError as error:
        if serves:
            raise ConfigurationError(f"{challenger} serves, and nobody watches over it: {error}") from error
        raise StepRejected(f"nothing could be gone back to: {error}") from error
    if serves:
        begin(context, watch)
    left = [promoted(context, place, challenger, watch, may_release=not serves), named(context, str(challenger))]
    summary = "; ".join([f"{challenger} is the champion", *filter(None, left)])
    return {"served": str(challenger), "guard": begin(context, watch), "summary": summary}


def promoted(
    context: StepContext, place: ModelPlace, challenger: ServedModel, watch: RunRequest | None, *, may_release: bool
) -> str:
    """Have it serve, and put that on record; what could not be put on record, "" where nothing is left.

    Raises as `promote_challenger`.
    """
    settings = gateway_settings()
    try:
        found = known(commanding.experiment_of(settings, name_of(context)), experiments_settings().folder)
        promote(
            found, ARM, (settings, *place_of_experiments()), (f"run {context.run.id}", BY), context.progress,
            override=False, may_release=may_release, on_release=lambda: begin(context, watch),
        )  # fmt: skip
    except (ConfigurationError, ServiceUnavailable) as error:
        if served(place, challenger.model) == challenger.version:
            begin(context, watch)
            return later(context, f"its experiment has no page with it: {error}", error)
        if isinstance(error, Busy):
            raise NotYet(str(error), AGAIN_S) from error
        if isinstance(error, ServiceUnavailable):
            raise
        raise StepRejected(str(error)) from error
    return ""


def named(context: StepContext, name: str) -> str:
    """Have MLflow name its models champions; why it does not, "" where it does. Raises ServiceUnavailable."""
    try:
        name_champions(context, name)
    except (ConfigurationError, ServiceUnavailable) as error:
        return later(context, f"MLflow does not say so: {error}", error)
    return ""


def later(context: StepContext, told: str, error: Exception) -> str:
    """What is left of a promotion is tried again while a server is away, for hours; then, and where it can never be
    done, that is told: it serves all the same. Raises ServiceUnavailable.
    """
    if isinstance(error, ServiceUnavailable) and context.attempts() < MOST_ATTEMPTS:
        raise ServiceUnavailable(f"it serves, and what is left is not done: {told}") from error
    return told


def served_model(told: str) -> ServedModel:
    """Of its name and version, as it is shown."""
    model, _, version = told.rpartition("/")
    return ServedModel(model, int(version))


def begin(context: StepContext, watch: RunRequest | None) -> str:
    """A run that watches over what was promoted; its id, "" for none."""
    return "" if watch is None else context.begin(watch)


def name_champions(context: StepContext, name: str) -> None:
    """In MLflow the models of what serves are the champions; those of before stay as previous ones."""
    from trainers.registry import aliases, champions

    aliases.connect(place_of_experiments()[1])
    chosen = [candidate_of(name, version) for name, version in trained_by(context)["models"].items()]
    record = {"promoted_by": BY, "promotion_reason": f"run {context.run.id}: {name} serves", RUN: context.run.id}
    champions.promote(chosen, record)


def reject(context: StepContext) -> dict[str, Any]:
    """Put back what others see: the champion decides everything, and MLflow knows what became of the models."""
    settings, why = gateway_settings(), context.run.why or str(context.run.verdict)
    experiment = commanding.register_of(settings).experiments.get(name_of(context))
    stopped = experiment is not None and experiment.state is not ExperimentState.STOPPED
    if stopped:
        assert experiment is not None  # noqa: S101 - see above
        if experiment.state is ExperimentState.CREATED:
            # What was never started cannot be stopped, and does nothing.
            stopped = False
        else:
            say(
                context,
                settings,
                ExperimentWord("stop", experiment.definition.name),
                f"{context.run.verdict}: {why}",
            )
    told = trained_by(context)
    if told is not None:
        mark(context, told["models"], why)
    if context.run.request.kind == "guard" and context.run.verdict == Verdict.REJECTED:
        tell_mlflow(context, why)
    return {"stopped": stopped, "summary": f"{context.run.verdict}: {why}"}


def tell_mlflow(context: StepContext, why: str) -> None:
    """In MLflow the champions are those of before again, and what was taken back says so. Raises
    ServiceUnavailable.
    """
    from trainers.registry import aliases, champions

    spec = read(dict(context.spec), GuardSpec, "guard")
    if spec.models:
        mark(context, spec.models, f"taken back: {why}")
    if not spec.before:
        return
    aliases.connect(place_of_experiments()[1])
    record = {"promoted_by": BY, "promotion_reason": f"run {context.run.id}: {spec.promoted} was taken back"}
    try:
        chosen = [candidate_of(name, version) for name, version in spec.before.items()]
    except ConfigurationError as error:
        # It serves: that MLflow lacks one of its models makes it no worse.
        context.progress(f"MLflow does not say so: {error}")
        return
    champions.take_back(chosen, spec.models, record)


def mark(context: StepContext, models: dict[str, str], why: str) -> None:
    """Say of each version what became of it."""
    from trainers.registry import aliases, champions

    aliases.connect(place_of_experiments()[1])
    verdict = context.run.verdict or Verdict.REJECTED
    for name, version in models.items():
        with suppress(ConfigurationError):
            # One that somebody deleted needs no word.
            champions.tell(name, str(version), {"orchestrator_verdict": str(verdict), "orchestrator_why": why})
