"""Steps that compare a challenger with the champion on live ticks: its experiment, and its shares."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from gateway.settings import GatewaySettings
from services.experiments.statistics.verdict import Verdict
from stack.processes.settings import experiments_settings, gateway_settings
from stack.workflows.asking import place_of_experiments
from stack.workflows.experiments import commanding
from stack.workflows.experiments.checking import check_models
from stack.workflows.experiments.deciding import decides
from stack.workflows.experiments.kept import CountedBlocks, KnownExperiment, known
from stack.workflows.orchestrator.asked import experiment_of
from stack.workflows.orchestrator.learning import shown_spec
from trading.errors import ConfigurationError
from trading.experiments.definition import ServedModel
from trading.experiments.register import WATCHER, Experiment, ExperimentState, ExperimentWord
from trading.spans import parse_span
from trainers.orchestrator.step import NotYet, StepContext, StepRejected

#: Between two looks at what is counted.
LOOK_S = 2.0
#: Another experiment lasts for hours.
BUSY_S = 300.0
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
        before = started(context, settings, before)
    d = before.definition
    summary = f"{d.challengers[0].served} challenges {d.champion} in {d.name}"
    return {"experiment": d.name, "champion": str(d.champion), "released_s": time.time(), "summary": summary}


def started(context: StepContext, settings: GatewaySettings, one: Experiment) -> Experiment:
    """Begin a comparison that was created, perhaps long ago.

    Raises:
        StepRejected: something else decides the desk by now than what it is to be compared with.
        NotYet: another experiment was quicker.
    """
    definition, now = one.definition, decides(settings)
    if now != definition.champion:
        raise StepRejected(f"it was to be compared with {definition.champion}, and {now} decides the desk by now")
    try:
        return say(context, settings, ExperimentWord("start", definition.name), "beside the desk, at first")
    except ConfigurationError as error:
        if commanding.register_of(settings).divided(definition.symbols):
            raise NotYet(str(error), BUSY_S) from error
        raise


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
