"""Steps that compare a challenger with the champion on live ticks: its experiment, its shares, its end."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from exporters.errors import Busy, ExportError
from gateway.settings import GatewaySettings
from services.experiments.statistics.verdict import Verdict
from stack.processes.settings import experiments_settings, gateway_settings
from stack.workflows.asking import ModelPlace, place_of_experiments
from stack.workflows.experiments import commanding
from stack.workflows.experiments.checking import check_models
from stack.workflows.experiments.deciding import decides
from stack.workflows.experiments.kept import CountedBlocks, KnownExperiment, known
from stack.workflows.experiments.promoting import promote, served
from stack.workflows.orchestrator.asked import ARM, RUN, experiment_of
from stack.workflows.orchestrator.going_back import was_released
from stack.workflows.orchestrator.learning import candidate_of, shown_spec, trained_by
from trading.errors import ConfigurationError, ServiceUnavailable
from trading.experiments.definition import ServedModel
from trading.experiments.register import WATCHER, Experiment, ExperimentState, ExperimentWord
from trading.spans import parse_span
from trainers.orchestrator.cycle import Verdict as RunVerdict
from trainers.orchestrator.runs import RunRequest
from trainers.orchestrator.step import NotYet, StepContext, StepRejected

#: Between two looks at what is counted.
LOOK_S = 2.0
AGAIN_S = 5.0
#: Another experiment lasts for hours.
BUSY_S = 300.0
#: Later with each, five minutes at most: some four hours.
MOST_ATTEMPTS = 50
BY = "orchestrator"


def name_of(context: StepContext) -> str:
    """Of the run's experiment: nobody else's."""
    return f"run-{context.run.id}"


def say(context: StepContext, settings: GatewaySettings, word: ExperimentWord, why: str) -> Experiment:
    """Command the experiment, if this attempt is still the one that may."""
    context.check()
    return commanding.command(settings, word, f"{why} (run {context.run.id})", BY)


def release(context: StepContext) -> dict[str, Any]:
    """Make the version known as a challenger of what decides the desk now, and begin its shadow.

    Raises:
        StepRejected: nothing decides the desk.
        NotYet: another experiment divides the desk's units.
    """
    settings, exported = gateway_settings(), context.output("export")
    register = commanding.register_of(settings)
    before = register.experiments.get(name_of(context))
    # Nothing is created that could not begin: it would be compared with the champion of long ago.
    symbols = shown_spec(context).comparison.symbols
    if (before is None or before.state is ExperimentState.CREATED) and (why := register.divided(symbols)):
        raise NotYet(why, BUSY_S)
    if before is None:
        champion = decides(settings)
        if champion is None:
            raise StepRejected(
                "nothing decides the desk, so there is nothing to compare with: the first version is a person's to "
                f"release, `ultrathink export release {exported['model']} {exported['version']}`"
            )
        challenger = ServedModel(exported["model"], exported["version"])
        definition = experiment_of(shown_spec(context).comparison, context.run.id, champion, challenger)
        check_models(definition, *place_of_experiments())
        before = say(context, settings, ExperimentWord("create", definition.name, definition), "a challenger")
    if before.state is ExperimentState.CREATED:
        before = say(
            context, settings, ExperimentWord("start", before.definition.name), "beside the desk, at first"
        )
    d = before.definition
    summary = f"{d.challengers[0].served} challenges {d.champion} in {d.name}"
    return {"experiment": d.name, "champion": str(d.champion), "released_s": time.time(), "summary": summary}


class Watched:
    """A run's experiment, looked at until something of it is known."""

    def __init__(self, context: StepContext) -> None:
        self._context, self._settings = context, gateway_settings()
        self._folder = experiments_settings().folder
        self.comparison = shown_spec(context).comparison
        # A step that is begun anew has no longer.
        self._until_s = context.output("release")["released_s"] + parse_span(self.comparison.most) / 1e9

    def experiment(self) -> Experiment:
        """As the log has it. Raises StepRejected where it was stopped, and why."""
        one = commanding.experiment_of(self._settings, name_of(self._context))
        if (stop := one.last_stop) is not None:
            whose = "its watcher" if stop.by == WATCHER else stop.by
            raise StepRejected(f"{whose} stopped {one.definition.name}: {stop.reason}")
        return one

    def look(self) -> tuple[KnownExperiment, CountedBlocks] | None:
        """What is counted; None where nothing is yet.

        Raises StepRejected where it speaks against the challenger.
        """
        experiment = self.experiment()
        try:
            found = known(experiment, self._folder)
        except ConfigurationError:
            found = None
        if found is not None:
            (one,) = found[0].evaluation.challengers
            if one.breached or one.verdict in {Verdict.WORSE, Verdict.EQUAL}:
                raise StepRejected(one.sentence)
        if time.time() > self._until_s:
            told = "nothing was counted" if found is None else found[0].evaluation.challengers[0].sentence
            raise StepRejected(f"after {self.comparison.most} it is not known to be better: {told}")
        return found

    def until(self, reached: Callable[[KnownExperiment, CountedBlocks], str]) -> KnownExperiment:
        """Wait until something is reached; `reached` says what is missing, "" for nothing."""
        while True:
            found = self.look()
            missing = "nothing is counted yet" if found is None else reached(*found)
            if found is not None and not missing:
                return found[0]
            self._context.progress(missing, 0 if found is None else found[0].evaluation.blocks, 0)
            time.sleep(LOOK_S)

    def ramp(self, share: float) -> None:
        """Give the challenger a share of the desk's units, from a block on that lies ahead of every partition."""
        one = self.experiment()
        begins = commanding.boundary(one.definition, commanding.clocks(self._settings))
        block = max(begins.block, one.steps[-1].from_block + 1 if one.steps else 0)
        word = ExperimentWord("ramp", one.definition.name, share=share, from_block=block)
        say(self._context, self._settings, word, "no harm so far")


def shadow(context: StepContext) -> dict[str, Any]:
    """Beside the desk, until enough blocks were counted. Raises StepRejected where they speak against it."""
    watched = Watched(context)
    wanted = watched.comparison.shadow_blocks

    def reached(found: KnownExperiment, _: CountedBlocks) -> str:
        blocks = found.evaluation.blocks
        return "" if blocks >= wanted else f"{blocks:,} of {wanted:,} blocks were counted beside the desk"

    found = watched.until(reached)
    return {"blocks": found.evaluation.blocks, "summary": found.evaluation.challengers[0].sentence}


def canary(context: StepContext) -> dict[str, Any]:
    """A share of the desk's units after the other, until it is known to be better. Raises StepRejected."""
    watched = Watched(context)
    told, shares = watched.comparison, []
    for share in told.steps:
        if watched.experiment().share < share:
            watched.ramp(share)
        begin = watched.experiment().steps[-1].from_block
        watched.until(partial(still_needed, begin=begin, share=share, blocks=told.step_blocks))
        shares.append(share)

    def reached(found: KnownExperiment, _: CountedBlocks) -> str:
        (one,) = found.evaluation.challengers
        return "" if one.verdict is Verdict.BETTER else one.sentence

    found = watched.until(reached)
    return {
        "shares": shares,
        "blocks": found.evaluation.blocks,
        "summary": found.evaluation.challengers[0].sentence,
    }


def still_needed(found: KnownExperiment, counted: CountedBlocks, begin: int, share: float, blocks: int) -> str:
    """What a share waits for before the next is given: so many blocks of it on the desk itself; "" for nothing.

    Of the desk's own rows nothing is asked but the log, so that they are counted as they are decided. The shadow,
    whose verdict comes at the end, may lie behind; its guardrails stop the challenger whenever they see harm.
    """
    del found
    there = 0 if counted.desk is None else sum(1 for block in counted.desk.blocks if block >= begin)
    return "" if there >= blocks else f"{there:,} of {blocks:,} blocks at a share of {share:.0%}"


def promote_challenger(context: StepContext) -> dict[str, Any]:
    """Release it through the exporters' gates, and name its models champions in MLflow.

    As soon as it serves it is watched, whatever is left to be done, by this attempt or by one that found it served.

    Raises:
        StepRejected: something speaks against it, or it was taken back.
        ConfigurationError: it serves, and nobody can watch over it.
        ServiceUnavailable, NotYet: not now.
    """
    from stack.workflows.orchestrator import guarding

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
        watch = guarding.wanted(context, challenger, champion)
    except ExportError as error:
        if serves:
            raise ConfigurationError(f"{challenger} serves, and nobody watches over it: {error}") from error
        raise StepRejected(f"nothing could be gone back to: {error}") from error
    if serves:
        begin(context, watch)
    left = [promoted(context, place, challenger, watch), named(context, str(challenger))]
    summary = "; ".join([f"{challenger} is the champion", *filter(None, left)])
    return {"served": str(challenger), "guard": begin(context, watch), "summary": summary}


def promoted(context: StepContext, place: ModelPlace, challenger: ServedModel, watch: RunRequest | None) -> str:
    """Have it serve, and put that on record; what could not be put on record, "" where nothing is left.

    Raises as `promote_challenger`.
    """
    settings = gateway_settings()
    try:
        found = known(commanding.experiment_of(settings, name_of(context)), experiments_settings().folder)
        promote(
            found, ARM, (settings, *place_of_experiments()), (f"run {context.run.id}", BY), context.progress,
            override=False, on_release=lambda: begin(context, watch),
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
    if context.run.request.kind == "guard" and context.run.verdict == RunVerdict.REJECTED:
        from stack.workflows.orchestrator import guarding

        guarding.tell_mlflow(context, why)
    return {"stopped": stopped, "summary": f"{context.run.verdict}: {why}"}


def mark(context: StepContext, models: dict[str, str], why: str) -> None:
    """Say of each version what became of it."""
    from trainers.registry import aliases, champions

    aliases.connect(place_of_experiments()[1])
    verdict = context.run.verdict or RunVerdict.REJECTED
    for name, version in models.items():
        with suppress(ConfigurationError):
            # One that somebody deleted needs no word.
            champions.tell(name, str(version), {"orchestrator_verdict": str(verdict), "orchestrator_why": why})
