"""The code as it is against another commit, in turns: `python -m benchmarks.commits REV FEED.gz`.

Latency at the gaps of a recorded feed, processor time a decision, a backlog worked off, and a restart that replays
the whole log; B over A with intervals of confidence, where A is the commit. One that holds 1 shows no difference.
TURNS runs of each.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import psutil

from benchmarks.figures import BenchmarkFigures, say
from benchmarks.load import drive
from benchmarks.load import send_only as send
from benchmarks.run import FOREVER_MS, MARKET, drained
from connectors.kafka.topics import TOPICS
from connectors.redis import open_client
from loadtest.judging.compare import compare, mean_ratio
from loadtest.open_loop.drive import Load
from stack.processes.gateway import running_gateway
from stack.servers.kafka import create_topics
from stack.servers.settings import StackSettings
from stack.supervision.status import read_status
from stack.workflows.loadtest.configuration import Configuration, code_of, in_turns, order
from stack.workflows.sandbox import rate_between, sandbox
from trading.errors import UltraThinkError

RATE, COUNTED = "2000/s", 40_000
TURNS = int(os.environ.get("TURNS", "4"))
BACKLOG = 60_000


def show(text: str) -> None:
    """What is going on."""
    say(f"    {text}")


def real_gaps(figures: BenchmarkFigures, revision: str, feed: str) -> None:
    """From the time for which a tick was meant to its visible decision."""
    say(f"latency at the gaps of {Path(feed).name}:")
    load = Load("", f"binance:{feed}", duration_s=30.0, warm_up_s=5.0)
    sides = (Configuration.parse(f"commit={revision}"), Configuration.parse("default"))
    for r in compare(*in_turns(sides, load, TURNS, show)):
        tell(figures, r.figure, r.a, r.b, (r.ratio, r.low, r.high))


@contextmanager
def desk(revision: str) -> Iterator[tuple[StackSettings, list[dict[str, str]]]]:
    """Servers of their own, and for the commit and for this code the environment that runs it."""
    with ExitStack() as opened:
        folder = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="ultrathink-commits-")))
        code = [opened.enter_context(code_of(side)) for side in (revision, "")]
        yield opened.enter_context(sandbox(folder / "home", show=show)), code


def catch_up(figures: BenchmarkFigures, revision: str) -> None:
    """A backlog worked off, and before it the replay of all that was decided, without a snapshot."""
    say(f"catching up, {BACKLOG:,} ticks a turn:")
    backlog: tuple[list[float], list[float]] = ([], [])
    replay: tuple[list[float], list[float]] = ([], [])
    with desk(revision) as (settings, code):
        # The first of all is not counted: there is nothing to replay yet, and brokers compile themselves.
        for number, side in enumerate([1, *order(TURNS)]):
            forget_snapshots(settings, number)
            send(settings.kafka_bootstrap, MARKET.format(BACKLOG), "max", BACKLOG)
            topic = f"bench.snapshots.{number}"
            with running_gateway(
                settings, environment=code[side], budget_ms=FOREVER_MS, snapshots_topic=topic
            ) as running:
                found = running.scrape()
                rate = rate_between(running, BACKLOG)
                drained(running)
            if number:
                backlog[side].append(rate)
                ticks = found.value("gateway_replayed_ticks_total")
                replay[side].append(ticks / found.value("gateway_replay_seconds_total"))
    for name, (a, b) in (("backlog, decisions/s", backlog), ("replay, ticks/s", replay)):
        tell(figures, name, float(np.median(a)), float(np.median(b)), mean_ratio(np.asarray(b) / np.asarray(a)))


def cost(figures: BenchmarkFigures, revision: str) -> None:
    """Processor time of gateway and broker for each decision at 2,000 ticks/s, and of the gateway alone.

    One broker serves both sides: what the stack around a gateway has saved is not in this.
    """
    say(f"processor time a decision at {RATE}:")
    whole: tuple[list[float], list[float]] = ([], [])
    alone: tuple[list[float], list[float]] = ([], [])
    with desk(revision) as (settings, code):
        # The first of all is not counted: brokers compile themselves.
        for number, side in enumerate([1, *order(TURNS)]):
            with running_gateway(settings, environment=code[side]) as running:
                found = servers_of(settings, running.pid)
                before = {name: processor_s(pid) for name, pid in found.items()}
                driven = drive(settings.kafka_bootstrap, MARKET.format(COUNTED), RATE, COUNTED, warm_up_s=0.0)
                if driven.missing:
                    raise UltraThinkError(f"{driven.missing:,} of {COUNTED:,} ticks have no decision")
                used = {name: processor_s(pid) - before[name] for name, pid in found.items()}
            show(
                f"{'AB'[side]}: "
                + ", ".join(f"{name} {s / COUNTED * 1e6:.0f} us" for name, s in used.items())
                + f"; {sum(driven.undecided.values()):,} not decided"
            )
            if number:
                whole[side].append(sum(used.values()) / COUNTED * 1e6)
                alone[side].append(used["gateway"] / COUNTED * 1e6)
    for name, (a, b) in (("gateway and broker, us/decision", whole), ("gateway, us/decision", alone)):
        tell(figures, name, float(np.median(a)), float(np.median(b)), mean_ratio(np.asarray(b) / np.asarray(a)))


def servers_of(settings: StackSettings, gateway_pid: int) -> dict[str, int]:
    """The processes that a decision costs."""
    status = read_status(settings.absolute_home)
    services = status.services if status is not None else []
    brokers = {s.name: s.process.pid for s in services if s.name.startswith("kafka-") and s.process is not None}
    return {"gateway": gateway_pid, **brokers}


def processor_s(pid: int) -> float:
    """Seconds of processor time that a process has used."""
    used = psutil.Process(pid).cpu_times()
    return float(used.user + used.system)


def forget_snapshots(settings: StackSettings, number: int) -> None:
    """So that a restart reads the log from its beginning."""
    create_topics(settings, {f"bench.snapshots.{number}": TOPICS.snapshots})
    client = open_client(settings.redis_url)
    client.delete(*(f"ultrathink:snapshot:gateway:{p}" for p in range(settings.partitions)))
    client.close()


def tell(figures: BenchmarkFigures, name: str, a: float, b: float, ratio: tuple[float, float, float]) -> None:
    """A ratio with its interval."""
    word = "no difference shown" if ratio[1] <= 1.0 <= ratio[2] else "B differs"
    beside = f"95 % {ratio[1]:.3f} to {ratio[2]:.3f}, {word}; A {a:.4g}, B {b:.4g}"
    figures.tell(name, ratio[0], "times", beside=beside)


def main(words: list[str]) -> int:
    """Both, into benchmarks/results/commits.json."""
    if len(words) != 2 or not Path(words[1]).is_file():
        sys.stderr.write("usage: python -m benchmarks.commits REV FEED.gz\n")
        return 2
    figures = BenchmarkFigures("commits", f"this code over {words[0]}: {TURNS} runs of each, in turns")
    try:
        real_gaps(figures, words[0], os.fspath(Path(words[1]).resolve()))
        cost(figures, words[0])
        catch_up(figures, words[0])
    finally:
        # What was measured before a failure took minutes too.
        figures.save({})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
