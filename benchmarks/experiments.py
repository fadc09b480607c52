"""`make bench`: what experiments cost the desk that they watch, and how soon harm puts the champion back.

Runs without an experiment, without one again, with a shadow, and with a canary take turns at the gaps of the
recorded feed; ratios are of their percentiles, with intervals of confidence, and the first over the second is the
noise. Then a canary's challenger is taken away, again and again: from the moment when every partition had passed
the block that showed it to the stop, and to the last decision of a challenger's unit.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from msgspec import Struct

from benchmarks.figures import BenchmarkFigures, say
from benchmarks.load import recorded_feed
from exporters.release.triton_client import TritonServer
from loadtest.judging.compare import Ratio, compare
from loadtest.measuring.result import RunResult
from loadtest.open_loop.drive import Load, drive
from stack.chaos.evidence import read_all
from stack.chaos.feed import Feed
from stack.processes.gateway import SeriesTopics, running_gateway
from stack.servers.kafka import create_topics
from stack.servers.settings import StackSettings
from stack.workflows.experiments.hosted import HostedExperiment, champion_of, new_challenger
from stack.workflows.sandbox import MODELS, sandbox
from trading.decision.schema import Decision
from trading.decision.wire import decode_decision, place
from trading.experiments.assignment import experiment_named
from trading.experiments.definition import (
    Challenger,
    ExperimentDefinition,
    GuardedMetric,
    PrimaryMetric,
    ServedModel,
)
from trading.experiments.register import ExperimentState
from trading.models.copies import challenger_name

TURNS = int(os.environ.get("BENCH_TURNS", "10"))
TIMES = int(os.environ.get("BENCH_TIMES", "10"))
DURATION_S, WARM_UP_S = 17.0, 5.0
SIDES = ("without", "without, again", "with a shadow", "with a canary of 25%")[
    : int(os.environ.get("BENCH_SIDES", "4"))
]
BLOCK, BLOCK_NS, LEAD_NS = "2s", 2_000_000_000, 2_000_000_000
#: Noise is no cost; what lies above it may cost so much.
MOST = 1.1
HARM_RATE_HZ, STOP_S = 200.0, 60.0


class Models(Struct, frozen=True):
    """Who decides, and who challenges."""

    champion: ServedModel
    challenger: ServedModel


def defined(name: str, kind: str, models: Models, guardrail: GuardedMetric) -> ExperimentDefinition:
    """An experiment of these two."""
    return ExperimentDefinition(
        1, name, models.champion, (Challenger("newer", models.challenger.model, models.challenger.version),),
        PrimaryMetric(1.0), kind=kind, salt=f"salt-of-{name}" if kind == "canary" else None, block=BLOCK,
        guardrails=(guardrail,),
    )  # fmt: skip


@contextmanager
def hosted(
    settings: StackSettings, topics: SeriesTopics, definition: ExperimentDefinition
) -> Iterator[HostedExperiment]:
    """One that is watched; stopped at the end."""
    with tempfile.TemporaryDirectory(prefix="ultrathink-experiments-") as folder:
        found = HostedExperiment(settings, topics, definition, Path(folder))
        try:
            found.begin()
            yield found
        finally:
            found.close()


# ---- what it costs ----------------------------------------------------------------------------


def turn_order(turn: int) -> list[int]:
    """Nobody is always first, and nobody always comes after the same one."""
    sides = list(range(len(SIDES)))
    rotated = sides[turn % len(sides) :] + sides[: turn % len(sides)]
    return rotated if turn % 2 else rotated[::-1]


def one_run(
    settings: StackSettings, topics: SeriesTopics, models: Models, load: Load, side: int, number: int
) -> RunResult:
    """A gateway of its own, and beside it what the side says."""
    with running_gateway(settings, **topics.settings(), **champions(models)), ExitStack() as opened:
        if side >= 2:
            kind = "canary" if side == 3 else "shadow"
            harmless = GuardedMetric("drawdown", 1e6)
            definition = defined(f"{kind}-{number}", kind, models, harmless)
            one = opened.enter_context(hosted(settings, topics, definition))
            if kind == "canary":
                one.ramp(0.25, LEAD_NS)
        found = drive(load, settings={"side": SIDES[side], "turn": str(number)})
        if side >= 2 and one.now().state is not ExperimentState.RUNNING:
            raise SystemExit(f"{definition.name} was stopped: {one.now().said[-1].reason}")
    return found


def champions(models: Models) -> dict[str, str]:
    """Settings of a gateway that decides by the champion."""
    return {"model_name": models.champion.model, "model_version": str(models.champion.version)}


def costs(settings: StackSettings, models: Models, figures: BenchmarkFigures) -> dict[str, list[Ratio]]:
    """Ratios of latencies over those without an experiment."""
    topics = SeriesTopics("bench-cost", "bench-cost.ticks")
    create_topics(settings, topics.names)
    load = Load(
        settings.kafka_bootstrap, recorded_feed(), duration_s=DURATION_S, warm_up_s=WARM_UP_S,
        ticks_topic=topics.ticks, decisions_topic=topics.decisions,
    )  # fmt: skip
    say("  warming up: a broker that has just started still compiles itself")
    one_run(settings, topics, models, load, len(SIDES) - 1, 0)
    runs: dict[int, list[RunResult]] = {side: [] for side in range(len(SIDES))}
    for turn in range(TURNS):
        for side in turn_order(turn):
            found = one_run(settings, topics, models, load, side, turn + 1)
            runs[side].append(found)
            took = found.latency
            say(f"  turn {turn + 1} of {TURNS}, {SIDES[side]}: p50 {took.p50:.2f} ms, p99 {took.p99:.2f} ms")
    told = {SIDES[side]: compare(runs[0], runs[side]) for side in range(1, len(SIDES))}
    noise = {one.figure: one.high for one in told[SIDES[1]]}
    for name, ratios in told.items():
        for one in ratios:
            if one.figure not in {"p50, ms", "p99, ms"}:
                continue
            is_goal = one.figure == "p99, ms" and name == SIDES[2]
            figures.tell(
                f"{name} over without: {one.figure.removesuffix(', ms')}", one.ratio, "times",
                at_most=max(MOST, noise[one.figure]) if is_goal else None,
                beside=f"95 % {one.low:.3f} to {one.high:.3f}, {one.verdict}; {one.a:.4g} ms to {one.b:.4g} ms",
            )  # fmt: skip
    return told


# ---- how soon harm ends -----------------------------------------------------------------------


class Harm(Struct, frozen=True):
    """Seconds from when every partition had passed the block that showed it.

    Attributes:
        stopped_s: to the stop, as it was written.
        last_s: to the last decision of a tick whose unit was a challenger's.
    """

    stopped_s: float
    last_s: float


def harm(settings: StackSettings, models: Models, number: int) -> Harm:
    """A challenger that is taken away."""
    topics = SeriesTopics(f"bench-harm-{number}", f"bench-harm-{number}.ticks")
    create_topics(settings, topics.names)
    definition = defined(f"harm-{number}", "canary", models, GuardedMetric("error_rate", 0.2, 0.5))
    feed = Feed(settings, topics.ticks, number, HARM_RATE_HZ, shift_to_now=True)
    try:
        with (
            running_gateway(settings, **topics.settings(), **champions(models)),
            hosted(settings, topics, definition) as one,
            closing(TritonServer(settings.triton_grpc)) as triton,
        ):
            block = one.ramp(0.5, LEAD_NS)
            time.sleep(max(0.0, (block + 2) * BLOCK_NS / 1e9 - time.time()))
            triton.unload(challenger_name(models.challenger.model, models.challenger.version, definition.name))
            deadline = time.monotonic() + STOP_S
            while (state := one.now()).state is ExperimentState.RUNNING:
                if time.monotonic() > deadline:
                    raise SystemExit(f"harm was not seen within {STOP_S:.0f} s")
                time.sleep(0.2)
            time.sleep(2.0)
    finally:
        feed.close()
    decisions = [decode_decision(one) for one in read_all(settings.kafka_bootstrap, topics.decisions)]
    shown_ns = shown(decisions, definition.name)
    mine = [d.decided_at_ns for d in decisions if d.assigned == "newer"]
    said = state.said[-1]
    say(f"  {number + 1} of {TIMES}: stopped {(said.at_ns - shown_ns) / 1e9:.2f} s after, {said.reason}")
    return Harm((said.at_ns - shown_ns) / 1e9, (max(mine) - shown_ns) / 1e9)


def shown(decisions: list[Decision], name: str) -> int:
    """When every partition had decided a tick beyond the first block that showed harm, ns since 1970."""
    mine = [d for d in decisions if experiment_named(d.experiment) == name and d.assigned == "newer"]
    blocks: dict[int, list[bool]] = {}
    for d in mine:
        blocks.setdefault(d.event_time_ns // BLOCK_NS, []).append(bool(d.fallback))
    first = min(block for block, failed in blocks.items() if sum(failed) / len(failed) > 0.5)
    beyond: dict[int, int] = {}
    for d in decisions:
        if d.event_time_ns // BLOCK_NS > first:
            partition, _ = place(d.decision_id)
            beyond[partition] = min(d.decided_at_ns, beyond.get(partition, d.decided_at_ns))
    return max(beyond.values())


def main() -> None:
    """Both, on one desk."""
    figures = BenchmarkFigures("experiments", f"experiments: what they cost, {TURNS} turns, and how soon harm ends")
    with tempfile.TemporaryDirectory() as folder, sandbox(Path(folder) / "home") as settings:
        models = Models(champion_of(settings, MODELS[1]), new_challenger(settings))
        found = [harm(settings, models, number) for number in range(TIMES)]
        figures.tell(
            f"harm: from the block that showed it to the stop, worst of {TIMES}",
            max(one.stopped_s for one in found), "s", at_most=1.0,
        )  # fmt: skip
        figures.tell(
            f"harm: from the block that showed it to a challenger's last tick, worst of {TIMES}",
            max(one.last_s for one in found), "s", at_most=1.0,
        )  # fmt: skip
        told = costs(settings, models, figures)
    figures.save({"harm": found, "costs": told})


if __name__ == "__main__":
    main()
