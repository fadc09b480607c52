"""A watch over what was promoted: beside it the last good one goes on deciding on a book of its own, and serves
again as soon as the new one is known to be worse.
"""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import msgspec

from gateway.settings import GatewaySettings
from services.experiments.statistics.worse import WorseRules, WorseWatch
from stack.processes.settings import experiments_settings, gateway_settings
from stack.workflows.asking import place_of_experiments
from stack.workflows.experiments import commanding
from stack.workflows.experiments.deciding import decides
from stack.workflows.experiments.kept import known
from stack.workflows.experiments.promoting import served
from stack.workflows.orchestrator.asked import read
from stack.workflows.orchestrator.asked_lived import GuardSpec
from stack.workflows.orchestrator.comparing import BY, mark, name_of, say
from stack.workflows.orchestrator.learning import candidate_of, shown_spec, trained_by
from stack.workflows.orchestrator.lived import pipeline_of
from trading.errors import ConfigurationError
from trading.experiments.definition import (
    CHAMPION,
    AtLeast,
    Challenger,
    ExperimentDefinition,
    PrimaryMetric,
    ServedModel,
)
from trading.experiments.register import Experiment, ExperimentState, ExperimentWord
from trading.spans import parse_span
from trainers.orchestrator.runs import BY_HAND, RunRequest
from trainers.orchestrator.step import NotYet, StepContext, StepRejected

if TYPE_CHECKING:
    from stack.workflows.asking import ModelPlace

LAST_GOOD = "last-good"
LOOK_S = 0.5
#: A gateway follows a release within so long; one that does not is no reason to begin.
FOLLOWS_S = 300.0
AGAIN_S = 5.0
TAKEN_BACK = "taken back: "


def begin(context: StepContext, promoted: ServedModel, last_good: ServedModel) -> str:
    """Have a run watch over what this one has promoted; its id, "" where the spec wants none."""
    spec = shown_spec(context)
    if not spec.guard.enabled or promoted == last_good:
        return ""
    told = spec.comparison
    try:
        before = pipeline_of(last_good)
    except ConfigurationError:
        # It serves again all the same: MLflow has no champions of it.
        before = {}
    lineage = place_of_experiments()[0].repository.verified_lineage(last_good.model, last_good.version)
    wanted = GuardSpec(
        promoted=promoted, last_good=last_good, of=context.run.id, sha256=dict(lineage.files),
        models=trained_by(context)["models"], before=before, rules=spec.guard, block=told.block, costs=told.costs,
        symbols=told.symbols,
    )  # fmt: skip
    return context.begin(
        RunRequest(
            kind="guard", spec=msgspec.to_builtins(wanted), priority=BY_HAND, trigger="rollback",
            trigger_key=f"guard/{context.run.id}", by=BY,
            reason=f"watches over {promoted}, which run {context.run.id} has promoted",
        )
    )  # fmt: skip


def watch(context: StepContext) -> dict[str, Any]:
    """Until enough blocks have shown no harm, or something else decides. Raises StepRejected where it was taken
    back.
    """
    spec = read(dict(context.spec), GuardSpec, "guard")
    watched = Watched(context, spec)
    while True:
        if (ended := watched.look()) is not None:
            return {"blocks": watched.blocks, "summary": ended}
        time.sleep(LOOK_S)


class Watched:
    """What was promoted, looked at until something of it is known.

    Attributes:
        blocks: that were counted so far.
    """

    def __init__(self, context: StepContext, spec: GuardSpec) -> None:
        """Begin the comparison, if no earlier attempt has. Raises NotYet where the desk does not follow yet."""
        self._context, self._spec, self._settings = context, spec, gateway_settings()
        self._place = place_of_experiments()[0]
        self._folder = experiments_settings().folder
        self._until_s = context.run.submitted_s + parse_span(spec.rules.most) / 1e9
        rules = spec.rules
        self._worse = WorseWatch(WorseRules(rules.utility, rules.hit_rate, rules.volatility, rules.alpha))
        self.blocks = 0

    def look(self) -> str | None:
        """Why the watch is over; None where it is not. Raises StepRejected where it was taken back."""
        spec, experiment = self._spec, self._experiment()
        if experiment is not None and (stop := experiment.last_stop) is not None:
            if stop.by == BY and stop.reason.startswith(TAKEN_BACK):
                self._take_back(stop.reason.removeprefix(TAKEN_BACK))
            return f"the comparison was stopped by {stop.by}: {stop.reason}"
        released = served(self._place, spec.promoted.model)
        if released != spec.promoted.version:
            return self._over(f"{spec.promoted.model} serves version {released} by now")
        if time.time() > self._until_s:
            return self._over(f"after {spec.rules.most} {self.blocks:,} blocks had shown no harm")
        if experiment is None:
            self._start()
            return None
        return self._judge(experiment)

    def _experiment(self) -> Experiment | None:
        return commanding.register_of(self._settings).experiments.get(name_of(self._context))

    def _start(self) -> None:
        """Make the comparison known, and begin it, once the desk is decided by what was promoted."""
        if (now := decides(self._settings)) != self._spec.promoted:
            if time.time() > self._context.run.submitted_s + FOLLOWS_S:
                raise ConfigurationError(f"the desk is decided by {now}, and {self._spec.promoted} was promoted")
            raise NotYet(f"the desk does not follow {self._spec.promoted} yet", AGAIN_S)
        name = name_of(self._context)
        say(self._context, self._settings, ExperimentWord("create", name, self._definition(name)), "a watch")
        say(self._context, self._settings, ExperimentWord("start", name), "the last good one goes on beside it")

    def _definition(self, name: str) -> ExperimentDefinition:
        spec, good = self._spec, self._spec.last_good
        return ExperimentDefinition(
            version=1, name=name, champion=spec.promoted, primary=PrimaryMetric(1.0), block=spec.block,
            challengers=(Challenger(LAST_GOOD, good.model, good.version),), planned_blocks=spec.rules.blocks,
            alpha=spec.rules.alpha, costs=spec.costs, at_least=AtLeast(),
        )  # fmt: skip

    def _judge(self, experiment: Experiment) -> str | None:
        if experiment.state is ExperimentState.CREATED:
            word = ExperimentWord("start", experiment.definition.name)
            say(self._context, self._settings, word, "the last good one goes on beside it")
            return None
        try:
            series = known(experiment, self._folder)[1].shadow
        except ConfigurationError:
            self._context.progress("nothing is counted yet")
            return None
        arms, rules = series.arms(), self._spec.rules
        now, before = (arms[arm].metrics(series.capital)["net_bps"] for arm in (CHAMPION, LAST_GOOD))
        self.blocks = len(now)
        if (worse := self._worse.look(now, before)) is not None:
            # First on record: whoever goes on from here goes back, whatever is counted meanwhile.
            word = ExperimentWord("stop", experiment.definition.name)
            say(self._context, self._settings, word, f"{TAKEN_BACK}{worse.sentence}")
            self._take_back(worse.sentence)
        if self.blocks >= rules.blocks:
            return self._over(f"{self.blocks:,} blocks have shown no harm: it is the last good one now")
        self._context.progress(f"no harm over {self.blocks:,} blocks", self.blocks, rules.blocks)
        return None

    def _over(self, why: str) -> str:
        """Nothing is compared any more."""
        experiment = self._experiment()
        if experiment is not None and experiment.state is ExperimentState.RUNNING:
            say(self._context, self._settings, ExperimentWord("stop", experiment.definition.name), why)
        return why

    def _take_back(self, why: str) -> None:
        """The last good one serves again, byte for byte. Raises StepRejected when it does."""
        spec, began_s = self._spec, time.monotonic()
        self._context.check()
        if served(self._place, spec.promoted.model) == spec.promoted.version:
            roll_back(self._place, spec, self._context)
        lineage = self._place.repository.verified_lineage(spec.last_good.model, spec.last_good.version)
        changed = sorted(n for n, sha256 in spec.sha256.items() if lineage.files.get(n) != sha256)
        if changed:
            raise ConfigurationError(
                f"{spec.last_good} serves again, and is not what it was: {', '.join(changed)} changed meanwhile"
            )
        followed = wait_for(self._settings, spec.last_good)
        took_s = time.monotonic() - began_s
        told = f"{why}; {spec.last_good} serves again, the same bytes as before"
        # Of an attempt that found it done already nobody knows how long it took.
        told += f", after {took_s:.1f} s" if followed else "; no gateway has followed yet"
        if spec.models:
            mark(self._context, spec.models, f"taken back: {why}")
        restore_champions(self._context, spec)
        raise StepRejected(told)


def roll_back(place: ModelPlace, spec: GuardSpec, context: StepContext) -> None:
    """Serve the last good version again. Raises ExportError, ServiceUnavailable."""
    from exporters.release.releases import Releases
    from exporters.release.triton_client import TritonServer

    with closing(TritonServer(place.address)) as triton:
        releases = Releases(place.repository, triton, place.gpu, context.progress)
        releases.rollback(spec.promoted.model, spec.last_good.version)


def wait_for(settings: GatewaySettings, model: ServedModel, timeout_s: float = 30.0) -> bool:
    """Whether the desk is decided by a model, within so long."""
    until_s = time.monotonic() + timeout_s
    while time.monotonic() < until_s:
        if decides(settings) == model:
            return True
        time.sleep(0.1)
    return False


def restore_champions(context: StepContext, spec: GuardSpec) -> None:
    """In MLflow the champions are those of before again."""
    if not spec.before:
        return
    from trainers.registry import champions, tracking

    tracking.connect(place_of_experiments()[1])
    chosen = [candidate_of(name, version) for name, version in spec.before.items()]
    record = {"promoted_by": BY, "promotion_reason": f"run {context.run.id}: {spec.promoted} was taken back"}
    champions.promote(chosen, record)
