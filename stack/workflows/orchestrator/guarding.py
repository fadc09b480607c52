"""A watch over what was promoted: beside it the last good one goes on deciding on a book of its own, and serves
again as soon as the new one is known to be worse.
"""

from __future__ import annotations

import time
from typing import Any

import msgspec
import numpy as np

from exporters.errors import Busy, ExportError
from services.experiments.statistics.guardrail import FEWEST_BLOCKS
from services.experiments.statistics.worse import WorseRules, WorseWatch
from stack.processes.settings import experiments_settings, gateway_settings
from stack.workflows.asking import place_of_experiments
from stack.workflows.experiments import commanding
from stack.workflows.experiments.deciding import decides
from stack.workflows.experiments.kept import known
from stack.workflows.experiments.promoting import served
from stack.workflows.orchestrator.asked import read
from stack.workflows.orchestrator.asked_lived import GuardSpec
from stack.workflows.orchestrator.comparing import BY, name_of, say
from stack.workflows.orchestrator.going_back import roll_back, rolled_back, wait_for
from stack.workflows.orchestrator.learning import shown_spec, trained_by
from stack.workflows.orchestrator.lived import pipeline_of
from trading.errors import ConfigurationError, ServiceUnavailable
from trading.experiments.definition import (
    CHAMPION,
    AtLeast,
    Challenger,
    ExperimentDefinition,
    PrimaryMetric,
    ServedModel,
)
from trading.experiments.register import WATCHER, Experiment, ExperimentState, ExperimentWord, Said, start_of
from trading.spans import parse_span
from trainers.orchestrator.runs import BY_HAND, RunRequest
from trainers.orchestrator.step import StepContext, StepRejected

LAST_GOOD = "last-good"
#: Whose word the register gives where a control topic was made anew.
GATEWAY = "gateway"
LOOK_S = 0.5
#: How reasons of stops begin after which nothing is compared again.
TAKEN_BACK, OVER = "taken back: ", "over: "
#: An export that fails so often in a row will not go well by itself.
MOST_FAILED = 5
#: A comparison that was stopped begins again so often, each time later.
MOST_STARTS, MOST_WAIT_S = 20, 300.0
LEAST_S = 3_600.0
#: For so long no block may have been counted before that is told.
STILL_S = 60.0


def wanted(context: StepContext, promoted: ServedModel, last_good: ServedModel) -> RunRequest | None:
    """A run that watches over what this one promotes; None where the spec wants none.

    Raises ExportError where the last good version is not what it was.
    """
    spec = shown_spec(context)
    if not spec.guard.enabled or promoted == last_good:
        return None
    told = spec.comparison
    try:
        before = pipeline_of(last_good)
    except ConfigurationError:
        # It serves again all the same: MLflow has no champions of it.
        before = {}
    lineage = place_of_experiments()[0].repository.verified_lineage(last_good.model, last_good.version)
    made = GuardSpec(
        promoted=promoted, last_good=last_good, of=context.run.id, sha256=dict(lineage.files),
        models=trained_by(context)["models"], before=before, rules=spec.guard, block=told.block, costs=told.costs,
    )  # fmt: skip
    return RunRequest(
        kind="guard", spec=msgspec.to_builtins(made), priority=BY_HAND, trigger="rollback",
        trigger_key=f"guard/{context.run.id}", by=BY,
        reason=f"watches over {promoted}, which run {context.run.id} has promoted",
    )  # fmt: skip


def watch(context: StepContext) -> dict[str, Any]:
    """Until enough blocks have shown no harm, or something else decides.

    Raises:
        StepRejected: it was taken back.
        ConfigurationError, ExportError: nobody watches over it any more, and why.
    """
    spec = read(dict(context.spec), GuardSpec, "guard")
    watched, failed = Watched(context, spec), 0
    while True:
        try:
            if (ended := watched.look()) is not None:
                return {"blocks": watched.blocks, "summary": ended}
            failed = 0
        except (ServiceUnavailable, Busy) as error:
            # Whoever holds the model's lock lets go, and servers come back; nobody else watches meanwhile.
            context.progress(f"tries again: {error}", watched.blocks, spec.rules.blocks)
        except (ExportError, OSError) as error:
            failed += 1
            if failed >= MOST_FAILED and not watched.takes_back:
                raise
            # What is known to be worse is not left in service for a full disk.
            context.progress(f"tries again: {error}", watched.blocks, spec.rules.blocks)
            time.sleep(min(MOST_WAIT_S, 2.0**failed))
        time.sleep(LOOK_S)


class Watched:
    """What was promoted, looked at until something of it is known.

    Attributes:
        blocks: that were counted so far, and have a value of both.
        takes_back: whether it is known to be worse, and on record.
    """

    def __init__(self, context: StepContext, spec: GuardSpec) -> None:
        """Nothing is compared yet."""
        self._context, self._spec, self._settings = context, spec, gateway_settings()
        self._place = place_of_experiments()[0]
        self._folder = experiments_settings().folder
        self._began_s, self._block_s = time.time(), parse_span(spec.block) / 1e9
        # One that is tried again much later is given some time, too.
        self._until_s = max(context.run.submitted_s + parse_span(spec.rules.most) / 1e9, self._began_s + LEAST_S)
        self._worse, self._started = self._fresh(), -1
        self.blocks, self.takes_back = 0, False
        #: When another block was counted, s of this process' clock.
        self._grew_s = time.monotonic()

    def _fresh(self) -> WorseWatch:
        rules = self._spec.rules
        return WorseWatch(WorseRules(rules.utility, rules.hit_rate, rules.volatility, rules.alpha))

    def look(self) -> str | None:
        """Why the watch is over; None where it is not.

        Raises:
            StepRejected: it was taken back.
            ConfigurationError: nothing could be compared, in all that time.
            ServiceUnavailable, ExportError: not now.
        """
        spec, experiment = self._spec, self._experiment()
        stop = None if experiment is None else experiment.last_stop
        if stop is not None and stop.by == BY and stop.reason.startswith(TAKEN_BACK):
            return self._take_back(stop)
        if stop is not None and stop.by == BY and stop.reason.startswith(OVER):
            return stop.reason.removeprefix(OVER)
        released = served(self._place, spec.promoted.model)
        if released != spec.promoted.version:
            return self._over(f"{spec.promoted.model} serves version {released} by now")
        if experiment is not None and experiment.state is ExperimentState.RUNNING:
            if (ended := self._judge(experiment)) is not None:
                return ended
        elif stop is not None and stop.by not in {WATCHER, BY, GATEWAY} and stop.at_ns / 1e9 > self._began_s:
            raise ConfigurationError(
                f"nobody watches over {spec.promoted} any more: {stop.by} stopped the comparison ({stop.reason}); "
                f"`ultrathink orchestrator retry {self._context.run.id}` watches again"
            )
        else:
            self._start(experiment, stop)
        if time.time() < self._until_s:
            return None
        if self.blocks < FEWEST_BLOCKS:
            raise ConfigurationError(
                f"{self.blocks} blocks could be compared in {spec.rules.most}, which show nothing, so nobody has "
                f"watched over {spec.promoted}: is what watches experiments running, and does the desk follow "
                "releases?"
            )
        return self._over(f"after {spec.rules.most} {self.blocks:,} blocks had shown no harm")

    def _experiment(self) -> Experiment | None:
        return commanding.register_of(self._settings).experiments.get(name_of(self._context))

    def _start(self, experiment: Experiment | None, stop: Said | None) -> None:
        """Begin the comparison, or begin it anew, once the desk is decided by what was promoted."""
        if (now := decides(self._settings)) != self._spec.promoted:
            self._context.progress(f"the desk is decided by {now}, and does not follow {self._spec.promoted} yet")
            return
        name, why = name_of(self._context), "the last good one goes on beside it"
        if experiment is None:
            say(self._context, self._settings, ExperimentWord("create", name, self._definition(name)), "a watch")
        elif stop is not None:
            starts = sum(said.act == "start" for said in experiment.said)
            if starts >= MOST_STARTS:
                raise ConfigurationError(
                    f"nobody watches over {self._spec.promoted} any more: its comparison was stopped {starts} "
                    f"times, last because {stop.reason}"
                )
            if abs(time.time() - stop.at_ns / 1e9) < min(MOST_WAIT_S, 2.0**starts):
                self._context.progress(f"begins again soon: {stop.reason}")
                return
            why = f"again, after {stop.by} had stopped it: {stop.reason}"[:500]
        say(self._context, self._settings, ExperimentWord("start", name), why)

    def _definition(self, name: str) -> ExperimentDefinition:
        spec, good = self._spec, self._spec.last_good
        return ExperimentDefinition(
            version=1, name=name, champion=spec.promoted, primary=PrimaryMetric(1.0), block=spec.block,
            challengers=(Challenger(LAST_GOOD, good.model, good.version),), planned_blocks=spec.rules.blocks,
            alpha=spec.rules.alpha, costs=spec.costs, at_least=AtLeast(),
        )  # fmt: skip

    def _judge(self, experiment: Experiment) -> str | None:
        try:
            found, counted = known(experiment, self._folder)
        except ConfigurationError:
            found = None
        began = start_of(experiment)
        if began != self._started:
            # Its blocks are counted anew.
            self._worse, self._started, self.blocks = self._fresh(), began, 0
        if found is None or not found.is_current:
            self._context.progress("nothing is counted yet")
            return None
        series, rules = counted.shadow, self._spec.rules
        arms = series.arms()
        now, before = (arms[arm].metrics(series.capital)["net_bps"] for arm in (CHAMPION, LAST_GOOD))
        if (compared := int(np.count_nonzero(~np.isnan(now) & ~np.isnan(before)))) != self.blocks:
            self.blocks, self._grew_s = compared, time.monotonic()
        if (worse := self._worse.look(now, before)) is not None:
            # First on record: whoever goes on from here goes back, whatever is counted meanwhile.
            word = ExperimentWord("stop", experiment.definition.name)
            said = say(self._context, self._settings, word, f"{TAKEN_BACK}{worse.sentence}").last_stop
            assert said is not None  # noqa: S101 - it was said
            return self._take_back(said)
        if self.blocks >= rules.blocks:
            return self._over(f"{self.blocks:,} blocks have shown no harm: it is the last good one now")
        still_s = time.monotonic() - self._grew_s
        told = f", and none was counted for {still_s:,.0f} s" if still_s > max(STILL_S, 3 * self._block_s) else ""
        self._context.progress(f"no harm over {self.blocks:,} blocks{told}", self.blocks, rules.blocks)
        return None

    def _over(self, why: str) -> str:
        """Nothing is compared any more."""
        experiment = self._experiment()
        if experiment is not None and experiment.state is ExperimentState.RUNNING:
            word = ExperimentWord("stop", experiment.definition.name)
            say(self._context, self._settings, word, f"{OVER}{why}")
        return why

    def _take_back(self, stop: Said) -> str:
        """The last good one serves again, byte for byte; what somebody released before, or after, stays.

        Returns:
            Why nothing was done.

        Raises:
            StepRejected: it was done.
            ConfigurationError: the last good one is not what it was.
            ServiceUnavailable, ExportError: not now.
        """
        spec, began_s, why = self._spec, time.monotonic(), stop.reason.removeprefix(TAKEN_BACK)
        self.takes_back = True
        self._context.check()
        if rolled_back(self._place, spec):
            # An earlier attempt has; whatever serves since is somebody's own choice.
            raise StepRejected(f"{why}; {spec.last_good} was put back")
        try:
            lineage = self._place.repository.verified_lineage(spec.last_good.model, spec.last_good.version)
        except ExportError as error:
            raise ConfigurationError(
                f"{spec.promoted} is known to be worse ({why}), and {spec.last_good} is not what it was ({error}): "
                "stop the desk, or release another"
            ) from error
        changed = sorted(n for n, sha256 in spec.sha256.items() if lineage.files.get(n) != sha256)
        if changed:
            raise ConfigurationError(
                f"{spec.promoted} is known to be worse ({why}), and {spec.last_good} is not what it was: "
                f"{', '.join(changed)} changed; stop the desk, or release another"
            )
        released = served(self._place, spec.promoted.model)
        if released not in {spec.promoted.version, spec.last_good.version}:
            return f"{why}; but {spec.promoted.model} serves version {released} by now, which stays"
        if released == spec.promoted.version:
            roll_back(self._place, spec, self._context, why)
        followed = wait_for(self._settings, spec.last_good)
        told = f"{why}; {spec.last_good} serves again, the same bytes as before"
        told += f", after {time.monotonic() - began_s:.1f} s" if followed else "; no gateway has followed yet"
        # MLflow is told by what puts things back: it may be away for long, and the desk has what it needs.
        raise StepRejected(told)
