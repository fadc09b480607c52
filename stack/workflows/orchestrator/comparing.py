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
from stack.workflows.asking import place_of_experiments
from stack.workflows.experiments import commanding
from stack.workflows.experiments.checking import check_models
from stack.workflows.experiments.deciding import decides
from stack.workflows.experiments.kept import CountedBlocks, KnownExperiment, known
from stack.workflows.experiments.promoting import promote, served
from stack.workflows.orchestrator.asked import RUN
from stack.workflows.orchestrator.learning import candidate_of, shown_spec, trained_by
from trading.errors import ConfigurationError, ServiceUnavailable
from trading.experiments.definition import Challenger, ExperimentDefinition, ServedModel
from trading.experiments.register import WATCHER, Experiment, ExperimentState, ExperimentWord
from trading.spans import parse_span
from trainers.orchestrator.cycle import Verdict as RunVerdict
from trainers.orchestrator.runs import RunRequest
from trainers.orchestrator.step import NotYet, StepContext, StepRejected

ARM = "challenger"
#: Between two looks at what is counted.
LOOK_S = 2.0
AGAIN_S = 5.0
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
    """
    settings, exported = gateway_settings(), context.output("export")
    before = commanding.register_of(settings).experiments.get(name_of(context))
    if before is None:
        champion = decides(settings)
        if champion is None:
            raise StepRejected(
                "nothing decides the desk, so there is nothing to compare with: the first version is a person's to "
                f"release, `ultrathink export release {exported['model']} {exported['version']}`"
            )
        definition = definition_of(context, champion, ServedModel(exported["model"], exported["version"]))
        check_models(definition, *place_of_experiments())
        before = say(context, settings, ExperimentWord("create", definition.name, definition), "a challenger")
    if before.state is ExperimentState.CREATED:
        before = say(
            context, settings, ExperimentWord("start", before.definition.name), "beside the desk, at first"
        )
    d = before.definition
    summary = f"{d.challengers[0].served} challenges {d.champion} in {d.name}"
    return {"experiment": d.name, "champion": str(d.champion), "released_s": time.time(), "summary": summary}


def definition_of(context: StepContext, champion: ServedModel, challenger: ServedModel) -> ExperimentDefinition:
    """Of the run's experiment."""
    told = shown_spec(context).comparison
    return ExperimentDefinition(
        version=1, name=name_of(context), kind="canary", salt=f"salt-of-{context.run.id}", champion=champion,
        challengers=(Challenger(ARM, challenger.model, challenger.version),), primary=told.primary,
        block=told.block, planned_blocks=told.planned_blocks, alpha=told.alpha, guardrails=told.guardrails,
        at_least=told.at_least, costs=told.costs, symbols=told.symbols, steps=told.steps,
    )  # fmt: skip


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
    """Release it through the exporters' gates, and name its models champions in MLflow. Raises StepRejected."""
    from stack.workflows.orchestrator import guarding

    settings = gateway_settings()
    experiment = commanding.experiment_of(settings, name_of(context))
    found = known(experiment, experiments_settings().folder)
    context.check()
    challenger = experiment.definition.challengers[0]
    place, champion = place_of_experiments()[0], experiment.definition.champion
    released = served(place, challenger.model)
    if guarding.was_released(place, challenger.served) and released != challenger.version:
        # An earlier attempt has released it, and it was taken back, or something else was released since.
        raise StepRejected(f"{challenger.served} was promoted, and version {released} serves by now, which stays")
    try:
        # Before anything is released: the way back must be known.
        watch = guarding.wanted(context, challenger.served, champion)
    except ExportError as error:
        raise StepRejected(f"nothing could be gone back to: {error}") from error
    desk = (settings, *place_of_experiments())
    try:
        done = promote(found, ARM, desk, (f"run {context.run.id}", BY), context.progress, override=False)
    except (ConfigurationError, ServiceUnavailable) as error:
        if served(place, challenger.model) == challenger.version:
            # It decides already, whatever is left to be done: from now on it is watched.
            begin(context, watch)
            raise NotYet(f"{challenger.served} serves, and what is left is not done: {error}", AGAIN_S) from error
        if isinstance(error, Busy):
            raise NotYet(str(error), AGAIN_S) from error
        if isinstance(error, ServiceUnavailable):
            raise
        raise StepRejected(str(error)) from error
    guard = begin(context, watch)
    summary = f"{done.served} is the champion"
    try:
        name_champions(context, str(done.served))
    except ConfigurationError as error:
        # It serves: that MLflow lacks one of its models makes it no worse.
        summary = f"{summary}, and MLflow does not say so: {error}"
    return {"served": str(done.served), "guard": guard, "summary": summary}


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
