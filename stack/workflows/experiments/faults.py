"""A canary that grows while its desk is hurt: every unit is its arm's, and every tick is decided once."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from msgspec import structs

from loadtest.open_loop.publisher import TickPublisher
from loadtest.open_loop.schedule import Speed, plan
from loadtest.open_loop.watcher import DecisionWatcher
from stack.chaos.evidence import LogComparison, Place, PublishedLog, Span, read_all, read_trail
from stack.chaos.feed import Feed, wait_until_decided
from stack.chaos.recovery import Fault, recovered_after
from stack.chaos.table import FaultRow, Trial
from stack.processes.gateway import GatewayProcess, SeriesTopics, series_gateway
from stack.processes.own import running
from stack.servers.kafka import create_topics
from stack.servers.settings import StackSettings
from stack.workflows.experiments.commanding import clocks
from stack.workflows.experiments.hosted import HostedExperiment, champion_of, new_challenger
from trading.decision.schema import Decision
from trading.decision.wire import decode_decision, place
from trading.errors import BadRecord, ServiceUnavailable
from trading.experiments.assignment import name_of
from trading.experiments.definition import CHAMPION, Challenger, ExperimentDefinition, GuardedMetric, PrimaryMetric
from trading.experiments.register import Experiment, ExperimentState
from trading.history import open_source
from trading.history.source import Record

RATE_HZ, SYMBOLS = 200.0, 12
BLOCK, BLOCK_S = "2s", 2.0
#: Event time, which is wall time here: gateways that are killed are back, and have heard, before a share begins.
LEAD_NS = 6_000_000_000
#: Before anything breaks: without any share nobody is connected to a challenger.
FIRST_SHARE = 0.05
CATCH_UP_S, RECOVERY_GOAL_S = 180.0, 10.0
#: How far an exchange's clock steps: ahead of the broker's by less than is refused, and far back.
AHEAD_S, BACK_S = 4.0, -600.0
#: Nobody may be accused here of what was done to the machine.
HARMLESS = (GuardedMetric("drawdown", 1e6),)


class CanaryFaults:
    """Rows of the table: each a share that grows while something breaks."""

    def __init__(self, trial: Trial) -> None:
        """Nothing is broken yet."""
        self._settings, self._seed = trial.settings, trial.seed
        self._servers, self._progress = trial.servers, trial.progress
        self._topics = SeriesTopics(f"{trial.series}-canary", f"{trial.series}-canary.ticks")
        self._definition = ExperimentDefinition(
            1, "grows", champion_of(trial.settings), (), PrimaryMetric(1.0), kind="canary",
            salt=f"salt-of-{trial.series}"[:64], block=BLOCK, guardrails=HARMLESS,
        )  # fmt: skip

    def rows(self) -> list[FaultRow]:
        """All of them. Raises UltraThinkError."""
        self._progress("a canary that grows")
        create_topics(self._settings, self._topics.names)
        challenger = new_challenger(self._settings)
        definition = structs.replace(
            self._definition, challengers=(Challenger("newer", challenger.model, challenger.version),)
        )
        with ExitStack() as opened:
            folder = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="ultrathink-canary-")))
            feed = Feed(self._settings, self._topics.ticks, self._seed, RATE_HZ, shift_to_now=True)
            opened.callback(feed.close)
            gateway = series_gateway(self._settings, self._topics, "one")
            opened.callback(gateway.kill)
            hosted = HostedExperiment(self._settings, self._topics, definition, folder)
            opened.callback(hosted.close)
            watcher = DecisionWatcher(self._settings.kafka_bootstrap, self._topics.decisions)
            opened.callback(watcher.close)
            gateway.start()
            gateway.wait_for_partitions()
            hosted.begin()
            hosted.ramp(FIRST_SHARE, LEAD_NS)
            hosted.wait_until_asked(gateway)
            done = self._faults(hosted, gateway, feed, watcher)
            feed.close()
            self._catch_up(feed.ends())
            experiment = hosted.now()
        decisions = list(self._decisions())
        trail = read_trail(self._settings.kafka_bootstrap, self._topics.decisions, self._topics.dead_letters)
        wrong = wrong_arms(experiment, decisions)
        for name, span, _ in done:
            mine = [d for d in decisions if d.assigned not in {"", CHAMPION} and span.holds(place(d.decision_id))]
            if not any(not d.fallback for d in mine):
                raise ServiceUnavailable(f"{name}: of {len(mine):,} ticks of its units the challenger decided none")
        return [
            FaultRow(name, 1, verdict(trail, span, wrong), recovery_s, RECOVERY_GOAL_S, "arms")
            for name, span, recovery_s in done
        ]

    def _faults(
        self, hosted: HostedExperiment, gateway: GatewayProcess, feed: Feed, watcher: DecisionWatcher
    ) -> list[tuple[str, Span, float]]:
        def restart(process: GatewayProcess) -> None:
            process.kill()
            process.start()

        def rewatch() -> None:
            hosted.watching.kill()
            hosted.watching.start()

        faults: dict[str, Callable[[], None]] = {
            "gateway killed": lambda: restart(gateway),
            "Redis killed": lambda: self._servers.kill("redis"),
            "its watcher killed": rewatch,
            "the exchange's clock steps": self._step_clock,
            "partitions move": lambda: self._move_partitions(gateway),
        }
        found = []
        for number, (name, hurt) in enumerate(faults.items(), 1):
            self._progress(f"a share grows: {name}")
            since = feed.ends()
            block = hosted.ramp(number / len(faults), LEAD_NS)
            began, wall_ns = time.monotonic(), time.time_ns()
            hurt()
            fault = Fault(since, feed.ends(), wall_ns, time.monotonic() - began)
            recovery_s = recovered_after(watcher, fault, self._settings.partitions, CATCH_UP_S)
            if hurt is rewatch:
                # Nobody else notices; what stops harm is the desk's own side, and the shadow has to catch up.
                hosted.wait_until_watched("desk")
                recovery_s = time.monotonic() - began
            self._servers.wait_until_ready()
            hosted.wait_until_watched()
            # Units of the share, and of more than one block of it, are within the span.
            self._wait_for_block(hosted, block + 3)
            until = feed.ends()
            self._catch_up(until)
            found.append((f"a share grows: {name}", Span(since, until), recovery_s))
            if hosted.now().state is not ExperimentState.RUNNING:
                raise ServiceUnavailable(f"{name}: {hosted.now().said[-1].reason}")
        return found

    def _step_clock(self) -> None:
        """Ticks that happened a little ahead of the broker's clock, and some of long ago."""
        records = open_source(f"simulate:regimes?seed={self._seed}&ticks=480&symbols={SYMBOLS}").records()
        now_ns = time.time_ns()
        stepped = [
            structs.replace(
                record,
                tick=structs.replace(
                    record.tick, event_time_ns=now_ns + int((AHEAD_S if k % 2 else BACK_S) * 1e9) - 10_000_000 + k
                ),
            )
            for k, record in enumerate(records)
        ]
        publish(self._settings, self._topics.ticks, stepped)

    def _move_partitions(self, first: GatewayProcess) -> None:
        half = self._settings.partitions // 2
        with self._beside(half) as second:
            first.wait_for_partitions(half)
            time.sleep(BLOCK_S)
            second.kill()
            first.wait_for_partitions()

    @contextmanager
    def _beside(self, partitions: int) -> Iterator[GatewayProcess]:
        with running(series_gateway(self._settings, self._topics, "two")) as process:
            process.wait_for_partitions(partitions)
            yield process

    def _wait_for_block(self, hosted: HostedExperiment, block: int) -> None:
        deadline = time.monotonic() + CATCH_UP_S
        end_ns = block * hosted.now().definition.block_ns
        while len(found := clocks(hosted.gateways)) < self._settings.partitions or min(found.values()) < end_ns:
            if time.monotonic() > deadline:
                raise ServiceUnavailable(f"block {block} was not reached within {CATCH_UP_S:.0f} s")
            time.sleep(0.2)

    def _catch_up(self, ends: dict[int, int]) -> None:
        wanted = {p: end for p, end in ends.items() if end}
        if not wait_until_decided(self._settings, self._topics.series, self._topics.ticks, wanted, CATCH_UP_S):
            raise ServiceUnavailable(f"{self._topics.series} did not decide all within {CATCH_UP_S:.0f} s")

    def _decisions(self) -> Iterator[Decision]:
        for payload in read_all(self._settings.kafka_bootstrap, self._topics.decisions):
            try:
                yield decode_decision(payload)
            except BadRecord:
                # The trail counts it.
                continue


def publish(settings: StackSettings, topic: str, records: list[Record]) -> None:
    """Send them at once. Raises ServiceUnavailable."""
    TickPublisher(settings.kafka_bootstrap, topic).publish(plan(iter(records), Speed("max")), keep_times=False)


def wrong_arms(experiment: Experiment, decisions: list[Decision]) -> set[Place]:
    """Ticks whose unit was given to another arm than the log gives it to, or by another share than its block's.

    Args:
        experiment: as it stands after all of it.
        decisions: of all its ticks.
    """
    arms, names = experiment.arms, experiment.definition.arms
    wrong = set()
    for d in decisions:
        unit = arms.arm_of(d.symbol, d.event_time_ns // arms.block_ns)
        told = ("", "") if unit is None else (name_of(arms.name, unit[1]), names[unit[0]])
        if (d.experiment, d.assigned) != told:
            wrong.add(place(d.decision_id))
    return wrong


def verdict(trail: PublishedLog, span: Span, wrong: set[Place]) -> LogComparison:
    """What became of a span of ticks: each has one decision or dead letter, in order, and its unit's arm."""
    places = {(p, k) for p, end in span.until.items() for k in range(span.since.get(p, 0), end)}
    return LogComparison(
        ticks=len(places & trail.evidence.keys()),
        letters=len(places & trail.letters.keys()),
        missing=len(places - trail.evidence.keys() - trail.letters.keys()),
        repeated=sum(map(span.holds, trail.repeated)),
        disordered=sum(map(span.holds, trail.disordered)),
        different=len(places & wrong) + sum(map(span.holds, trail.broken)) + trail.unreadable,
    )
