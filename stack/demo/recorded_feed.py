"""The experiments' demo on what an exchange recorded: a second model's share grows, and no unit is moved."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import islice
from pathlib import Path

from msgspec import Struct

from gateway.control.control import Control
from loadtest.open_loop.publisher import TickPublisher
from loadtest.open_loop.schedule import Speed, plan
from stack.chaos.evidence import read_all
from stack.demo.run import LIMITS
from stack.processes.gateway import SeriesTopics, series_gateway
from stack.processes.own import running
from stack.servers.kafka import create_topics
from stack.servers.settings import StackSettings
from stack.workflows.experiments.faults import wrong_arms
from stack.workflows.experiments.hosted import HostedExperiment
from trading.decision.schema import Decision
from trading.decision.wire import decode_decision
from trading.errors import ServiceUnavailable
from trading.experiments.definition import (
    Challenger,
    ExperimentDefinition,
    GuardedMetric,
    PrimaryMetric,
    ServedModel,
)
from trading.experiments.register import Experiment
from trading.history import open_source
from trading.risk import limits_file

NAME, ARM = "recorded", "second"
STEPS = (0.05, 0.25, 1.0)
#: So much of the ticks is decided, and the next share is given; the first one before any.
RAMPS = (0.3, 0.6)
BLOCK, LEAD_NS = "1s", 20_000_000_000
RATE_HZ, LOOK_S = 2000.0, 0.2
MOST_TICKS, DECIDED_S = 90_000, 240.0


class FeedRamp(Struct, frozen=True):
    """What became of a share that grew on a recorded feed.

    Attributes:
        source: of the ticks.
        decisions: one a tick.
        units: share -> units that it divided, and of them those that the challenger had.
        moved: units that two arms had.
        wrong: ticks that another arm had than the log gives them to.
        answered: the challenger's ticks that it decided.
        fallbacks: those that the champion decided in its place.
        stopped: why it was stopped; "" where it was not.
    """

    source: str
    decisions: int
    units: dict[str, tuple[int, int]]
    moved: int
    wrong: int
    answered: int
    fallbacks: int
    stopped: str

    @property
    def as_promised(self) -> bool:
        """Every share was reached and decided by the challenger, nobody moved, and every tick is its arm's."""
        treated = [mine for _, mine in self.units.values()]
        is_asked = self.answered > self.fallbacks
        reached = len(self.units) == len(STEPS) and all(treated) and is_asked
        return reached and not (self.moved or self.wrong or self.stopped)


def definition_of(models: tuple[ServedModel, ServedModel]) -> ExperimentDefinition:
    """Of the champion and the second model."""
    champion, second = models
    return ExperimentDefinition(
        1, NAME, champion, (Challenger(ARM, second.model, second.version),), PrimaryMetric(1.0), kind="canary",
        salt=f"salt-of-{NAME}-1", steps=STEPS, block=BLOCK,
        # The recorded prices are not those that either was taught: here the share is shown, and not who is better.
        guardrails=(GuardedMetric("drawdown", 1e6),),
    )  # fmt: skip


def ramp_on(
    settings: StackSettings, source: str, models: tuple[ServedModel, ServedModel],
    stage: Callable[[str], None], progress: Callable[[str, int, int], None],
) -> FeedRamp:  # fmt: skip
    """Decide the feed on topics of its own while the second model's share grows. Raises UltraThinkError."""
    topics = SeriesTopics(NAME, f"{NAME}.ticks")
    create_topics(settings, topics.names)
    ticks = list(islice(open_source(source).records(), MOST_TICKS))
    Control(settings.kafka_bootstrap, topics.control, settings.redis_url).apply(
        limits_file.read(LIMITS), "the demo's desk", "experiment demo"
    )
    champion = {"model_name": models[0].model, "model_version": str(models[0].version)}
    patient = {"budget_ms": "86400000", "reserve_ms": "0", "shed_below_ms": "0"}
    with ExitStack() as opened:
        folder = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="ultrathink-recorded-")))
        hosted = HostedExperiment(settings, topics, definition_of(models), folder)
        opened.callback(hosted.close)
        hosted.begin()
        gateway = opened.enter_context(running(series_gateway(settings, topics, "one", **champion, **patient)))
        gateway.wait_for_partitions()
        hosted.ramp(STEPS[0], LEAD_NS)
        hosted.wait_until_asked(gateway)
        shares, ramps = list(STEPS[1:]), list(RAMPS)
        with ThreadPoolExecutor(1) as beside:
            publisher = TickPublisher(settings.kafka_bootstrap, topics.ticks)
            planned = plan(iter(ticks), Speed("constant", rate_hz=RATE_HZ))
            deadline = time.monotonic() + DECIDED_S
            sending = None
            while (done := int(gateway.decided())) < len(ticks):
                if ramps and done >= ramps[0] * len(ticks):
                    share, _ = shares.pop(0), ramps.pop(0)
                    block = hosted.ramp(share, LEAD_NS)
                    stage(f"the second model has {share:.0%} of the units from block {block} on")
                sending = sending or beside.submit(publisher.publish, planned)
                if sending.done():
                    sending.result()
                if time.monotonic() > deadline:
                    raise ServiceUnavailable(f"{done:,} of {len(ticks):,} ticks were decided in {DECIDED_S:.0f} s")
                progress("decided of the feed", done, len(ticks))
                time.sleep(LOOK_S)
        experiment = hosted.now()
    return counted(source, experiment, list(decided(settings, topics)))


def decided(settings: StackSettings, topics: SeriesTopics) -> Iterator[Decision]:
    """All of them. Raises BadRecord."""
    return (decode_decision(payload) for payload in read_all(settings.kafka_bootstrap, topics.decisions))


def counted(source: str, experiment: Experiment, decisions: list[Decision]) -> FeedRamp:
    """What they tell of the shares."""
    arms, block_ns = experiment.arms, experiment.arms.block_ns
    had: dict[tuple[str, int], set[str]] = {}
    for d in decisions:
        if d.experiment:
            had.setdefault((d.symbol, d.event_time_ns // block_ns), set()).add(d.assigned)
    units: dict[str, tuple[int, int]] = {}
    for (_, block), whose in had.items():
        step = arms.step_at(block)
        if step is not None:
            name = f"{step.share:.0%}"
            whole, mine = units.get(name, (0, 0))
            units[name] = whole + 1, mine + (ARM in whose)
    stopped = next((one.reason for one in experiment.said if one.act == "stop"), "")
    return FeedRamp(
        source, len(decisions), units, sum(len(whose) > 1 for whose in had.values()),
        len(wrong_arms(experiment, decisions)), sum(d.assigned == ARM and not d.fallback for d in decisions),
        sum(bool(d.fallback) for d in decisions), stopped,
    )  # fmt: skip
