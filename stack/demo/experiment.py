"""Experiments from nothing, on the real servers: three models of a market whose signal is known; which is better?

The champion has learned from a market without a signal, one challenger from one whose quotes foretell its moves,
and one from a market whose quotes foretell the opposite. Each challenger has an experiment, and is given a share of
the desk's units. The contrary one must be stopped by its guardrail, and the champion put back; the one that knows
the signal must be found better, and becomes the champion.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

from msgspec import Struct

from exporters import profiles
from exporters.export import export_pipeline
from exporters.options import Options
from exporters.release.releases import Releases
from exporters.release.triton_client import TritonServer
from exporters.repository.repository import ModelRepository
from gateway.control.control import Control
from gateway.settings import GatewaySettings
from loadtest.open_loop.publisher import TickPublisher
from loadtest.open_loop.schedule import Speed, plan
from services.experiments.statistics.verdict import Verdict
from stack.demo.recorded_feed import FeedRamp, ramp_on
from stack.demo.run import LIMITS
from stack.processes.experiments import running_experiments
from stack.processes.gateway import GatewayProcess, running_gateway
from stack.processes.settings import experiments_settings, gateway_settings
from stack.servers.settings import StackSettings
from stack.workflows.asking import place_of_models
from stack.workflows.experiments import commanding
from stack.workflows.experiments.checking import check_models
from stack.workflows.experiments.hosted import asked
from stack.workflows.experiments.kept import KnownExperiment, known
from stack.workflows.experiments.promoting import Promoted, promote
from stack.workflows.experiments.report import write_page
from stack.workflows.sandbox import MODELS
from stack.workflows.training.settings import TrainRequest
from stack.workflows.training.train import train
from trading.errors import ConfigurationError
from trading.experiments.definition import (
    AtLeast,
    Challenger,
    ExperimentDefinition,
    GuardedMetric,
    PrimaryMetric,
    ServedModel,
)
from trading.experiments.register import WATCHER, ExperimentState, ExperimentWord
from trading.history import open_source
from trading.risk import limits_file

FUSED = MODELS[1]
#: Arm -> the market that it has learned from.
TAUGHT = {
    "champion": "simulate:calm?seed=1&ticks=12000&symbols=4",
    "signal": "simulate:signal?seed=2&ticks=60000&symbols=4",
    "contrary": "simulate:contrary?seed=3&ticks=60000&symbols=4",
}
#: Far enough for what quotes foretell there, and not so far that training takes it for a leak.
HORIZON = "1s"
#: The market that is traded: it has the signal. Each challenger has units of two of its symbols.
TICKS = 90_000
MARKET = f"simulate:signal?seed=99&ticks={TICKS}&symbols=4"
RATE_HZ, LOOK_S = 2000.0, 0.5
#: So much of the ticks is decided, and the one that knows the signal is given its next share.
RAMPS = (0.05, 0.4)
#: Event time that passes while a command reaches gateways at such a rate.
LEAD_NS = 150_000_000_000
#: After the last tick everything that was decided is counted within so long.
COUNTED_S, QUIET_S, MOST_LEFT = 120.0, 3.0, 2000
BY, WHY = "experiment demo", "the demo"
#: A deadline is the live path's to keep: here every tick is to be decided, however slow the machine.
PATIENT: dict[str, Any] = {"budget_ms": "86400000", "reserve_ms": "0", "shed_below_ms": "0", "model_name": FUSED}


class Shown(Struct, frozen=True):
    """What the experiments came to.

    Attributes:
        experiments: by arm, as they ended.
        stopped: why the contrary one was stopped; "" where it was not.
        promoted: the one that knows the signal; None where it was not.
        decisions: of the desk.
        pages: where they are written, by arm.
        as_planted: whether what was planted was found, and acted on.
        feed: of a recorded feed, what became of a share that grew; None where none was given.
    """

    experiments: dict[str, KnownExperiment]
    stopped: str
    promoted: Promoted | None
    decisions: int
    pages: dict[str, str]
    as_planted: bool
    feed: FeedRamp | None = None


Stage = Callable[[str], None]
#: What is done, how much of it, and of how much.
Progress = Callable[[str, int, int], None]


def experiment_of(arm: str, versions: dict[str, int], symbols: tuple[str, ...]) -> ExperimentDefinition:
    """A challenger's own experiment."""
    return ExperimentDefinition(
        version=1,
        name=arm,
        kind="canary",
        salt=f"salt-of-{arm}-1",
        symbols=symbols,
        steps=(0.1, 0.25, 0.5),
        champion=ServedModel(FUSED, versions["champion"]),
        challengers=(Challenger(arm, FUSED, versions[arm]),),
        primary=PrimaryMetric(0.01),
        block="1s",
        planned_blocks=600,
        at_least=AtLeast(100, "1m"),
        guardrails=(
            GuardedMetric("drawdown", 8.0),
            # Blocks pass here within a twentieth of a second, and a busy machine is late for whole ones.
            GuardedMetric("error_rate", 0.5),
        ),
    )


def teach(settings: StackSettings, stage: Stage) -> dict[str, int]:
    """Train and publish the three, and release the champion; arm -> its version."""
    gpu, container = profiles.find_gpu(profiles.DEFAULT_GPU), profiles.find(profiles.DEFAULT_CONTAINER)
    repository, versions = ModelRepository(settings.model_repository), dict[str, int]()
    for arm, source in TAUGHT.items():
        stage(f"train {arm} on {source}")
        train(TrainRequest((source,), horizon=HORIZON, folds=1), lambda *_: None)
        stage(f"export {arm}")
        options = Options(settings.mlflow_uri, container, gpu, "challenger")
        published = export_pipeline(MODELS[0], options, repository, lambda _: None, fuse=True)
        versions[arm] = next(one.version for one in published if one.name == FUSED)
        if arm == "champion":
            stage("release the champion")
            with closing(TritonServer(settings.triton_grpc)) as triton:
                Releases(repository, triton, gpu, lambda _: None).release(FUSED, versions[arm])
    return versions


def run(settings: StackSettings, stage: Stage, progress: Progress, feed: str | None = None) -> Shown:
    """The whole of it, on servers that are up; of a SOURCE of recorded ticks a share grows there, too."""
    versions, desk = teach(settings, stage), gateway_settings()
    recorded = None
    if feed is not None:
        stage(f"let the second model's share grow on {feed}")
        models = (ServedModel(FUSED, versions["champion"]), ServedModel(FUSED, versions["signal"]))
        recorded = ramp_on(settings, feed, models, stage, progress)
    control = Control(settings.kafka_bootstrap, desk.control_topic, settings.redis_url)
    control.apply(limits_file.read(LIMITS), "the demo's desk", BY)
    symbols = sorted({record.tick.symbol for record in open_source(MARKET).records()})
    stage("begin an experiment of each challenger, with a tenth of its units")
    for arm, mine in (("signal", tuple(symbols[:2])), ("contrary", tuple(symbols[2:]))):
        definition = experiment_of(arm, versions, mine)
        check_models(definition, place_of_models(), settings.mlflow_uri)
        for word in (
            ExperimentWord("create", arm, definition),
            ExperimentWord("start", arm),
            # Before the first tick: every block lies ahead.
            ExperimentWord("ramp", arm, share=definition.steps[0]),
        ):
            commanding.command(desk, word, WHY, BY)
    with running_experiments(settings, share=1.0, keep_s=0.5), running_gateway(settings, **PATIENT) as gateway:
        wait_until_asked(gateway)
        stage(f"decide {MARKET}")
        decide(settings, desk, gateway, stage, progress)
        stage("wait for what the experiments have found")
        found = {arm: wait_until_counted(desk, arm, progress) for arm in ("signal", "contrary")}
        promoted = None
        if not found["signal"].evaluation.challengers[0].breached:
            stage("promote the one that is better")
            promoted = promoted_signal(desk, settings)
    pages = {arm: write(settings, arm) for arm in found}
    ended = {arm: known_of(desk, arm) for arm in found}
    return Shown(
        ended, stopped_by_guardrail(ended["contrary"]), promoted, int(found["signal"].decisions), pages,
        as_planted(ended, promoted) and (recorded is None or recorded.as_promised), recorded,
    )  # fmt: skip


def wait_until_asked(gateway: GatewayProcess) -> None:
    """Both challengers are loaded, and the gateway is connected to them."""
    deadline = time.monotonic() + COUNTED_S
    while (told := [state for states in asked(gateway).values() for state in states]) != ["closed", "closed"]:
        if time.monotonic() > deadline:
            raise ConfigurationError(
                f"the challengers are not asked: {'; '.join(told) or 'no experiment is known'}"
            )
        time.sleep(LOOK_S)


def decide(
    settings: StackSettings, desk: GatewaySettings, gateway: GatewayProcess, stage: Stage, progress: Progress
) -> None:
    """Have the desk decide the market; the one that knows the signal gets its next shares meanwhile."""
    publisher = TickPublisher(settings.kafka_bootstrap, desk.ticks_topic)
    ticks, ramps = plan(open_source(MARKET).records(), Speed("constant", rate_hz=RATE_HZ)), list(RAMPS)
    with ThreadPoolExecutor(1) as beside:
        # It keeps the rate, and returns with the last tick.
        sending = beside.submit(publisher.publish, ticks)
        while (done := int(gateway.decided())) < TICKS:
            if sending.done():
                sending.result()
            progress("decided", done, TICKS)
            if ramps and done >= ramps[0] * TICKS:
                ramps.pop(0)
                ramp_signal(desk, stage)
            time.sleep(LOOK_S)


def ramp_signal(desk: GatewaySettings, stage: Stage) -> None:
    """The one that knows the signal gets its next share, if it still runs."""
    one = commanding.experiment_of(desk, "signal")
    if one.state is ExperimentState.RUNNING:
        share = commanding.next_step(one)
        begin = commanding.boundary(one.definition, commanding.clocks(desk), LEAD_NS)
        word = ExperimentWord("ramp", "signal", share=share, from_block=begin.block)
        commanding.command(desk, word, WHY, BY)
        stage(f"signal has {share:.0%} of its units {commanding.when_text(begin)}")


def known_of(desk: GatewaySettings, arm: str) -> KnownExperiment:
    """What is known of a challenger's experiment by now. Raises ConfigurationError where nothing is yet."""
    return known(commanding.experiment_of(desk, arm), experiments_settings().folder)[0]


def wait_until_counted(desk: GatewaySettings, arm: str, progress: Progress) -> KnownExperiment:
    """Its experiment once it has a verdict, was stopped, or has counted every tick."""
    deadline, counted, changed_s = time.monotonic() + COUNTED_S, 0, time.monotonic()
    while True:
        try:
            found = known_of(desk, arm)
        except ConfigurationError:
            if time.monotonic() > deadline:
                raise
            time.sleep(LOOK_S)
            continue
        if found.decisions != counted:
            counted, changed_s = found.decisions, time.monotonic()
        # The last block has no end, and is not kept.
        is_counted = counted > TICKS - MOST_LEFT and time.monotonic() - changed_s > QUIET_S
        if found.experiment.state is ExperimentState.STOPPED or is_counted or time.monotonic() > deadline:
            return found
        progress(f"counted of {arm}", found.decisions, TICKS)
        time.sleep(LOOK_S)


def promoted_signal(desk: GatewaySettings, settings: StackSettings) -> Promoted | None:
    """Through the gates; None where something speaks against it."""
    one = known(commanding.experiment_of(desk, "signal"), experiments_settings().folder)
    try:
        return promote(
            one, "", (desk, place_of_models(), settings.mlflow_uri), (WHY, BY), lambda _: None, override=False
        )
    except ConfigurationError:
        return None


def write(settings: StackSettings, arm: str) -> str:
    """The page of a challenger's experiment; where it is."""
    found, counted = known(commanding.experiment_of(gateway_settings(), arm), experiments_settings().folder)
    page = settings.absolute_home / "report" / f"{arm}.html"
    write_page(page, found.experiment.definition, found.evaluation, counted, "", found)
    return str(page)


def stopped_by_guardrail(found: KnownExperiment) -> str:
    """Why its watcher stopped it; "" where it did not."""
    return next((s.reason for s in found.experiment.said if s.act == "stop" and s.by == WATCHER), "")


def as_planted(ended: dict[str, KnownExperiment], promoted: Promoted | None) -> bool:
    """Whether the contrary one was stopped, and the one that knows the signal found better, and promoted."""
    signal = ended["signal"].evaluation.challengers[0]
    is_better = signal.verdict is Verdict.BETTER and not signal.breached
    return is_better and promoted is not None and bool(stopped_by_guardrail(ended["contrary"]))
