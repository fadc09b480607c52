"""`make bench`: our gateway beside a plain Quix Streams one, on one broker and one Triton, with one harness.

Quix Streams publishes at its commits, five seconds apart by default where decisions are to be exactly once; it is
measured so, with commits every 20 ms, and at least once, where nothing waits for a commit. Its environment is made
from benchmarks/quix.lock; where that cannot be had, this says so and measures ours alone.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from msgspec import Struct

from benchmarks.figures import BenchmarkFigures, say
from loadtest.measuring.result import RunResult
from loadtest.open_loop.drive import Load, drive
from stack.processes.gateway import SeriesTopics, series_gateway
from stack.processes.own import running
from stack.servers.kafka import create_topics
from stack.servers.settings import StackSettings
from stack.workflows.sandbox import MODELS, sandbox

ROOT = Path(__file__).resolve().parents[1]
LOCK = Path(__file__).with_name("quix.lock")
MODEL = MODELS[1]
RATE, SECONDS, WARM_UP_S = 200, 60, 20
SOURCE = f"simulate:regimes?ticks={RATE * SECONDS}&symbols=16"


class Contender(Struct, frozen=True):
    """Who decides, how its decisions are delivered, and how often it commits where that is told."""

    name: str
    is_ours: bool
    delivery: str
    commits_s: float = 0.0


#: Its default commits, and about our pace.
CONTENDERS = (
    Contender("Quix Streams, exactly once, commits every 5 s", False, "exactly-once", 5.0),
    Contender("Quix Streams, exactly once, commits every 20 ms", False, "exactly-once", 0.02),
    Contender("Quix Streams, at least once", False, "at-least-once", 5.0),
    Contender("ours, exactly once", True, "exactly-once"),
    Contender("ours, at least once", True, "at-least-once"),
)
#: Ours over theirs.
COMPARED = ((CONTENDERS[3], CONTENDERS[1]), (CONTENDERS[4], CONTENDERS[2]))


def environment(folder: Path) -> Path | str:
    """The interpreter of a fresh environment with what is locked, or why there is none."""
    made = folder / "quix-environment"
    python = made / "bin" / "python"
    for command in (
        [sys.executable, "-m", "venv", os.fspath(made)],
        [os.fspath(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", "--require-hashes",
         "-r", os.fspath(LOCK)],
    ):  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            return (done.stderr.strip().splitlines() or ["it failed without a word"])[-1]
    return python


@contextmanager
def quix(python: Path, settings: StackSettings, topics: SeriesTopics, who: Contender) -> Iterator[None]:
    """One that runs; ended at the end."""
    spec = {
        "bootstrap": settings.kafka_bootstrap, "triton": settings.triton_grpc, "model": MODEL,
        "group": topics.series, "ticks": topics.ticks, "decisions": topics.decisions,
        "guarantee": who.delivery, "commit_interval_s": who.commits_s,
    }  # fmt: skip
    process = subprocess.Popen(
        [os.fspath(python), "-m", "benchmarks.quix_gateway", json.dumps(spec)],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": os.fspath(ROOT)},
    )  # fmt: skip
    try:
        yield
        if process.poll() is not None:
            raise SystemExit(f"Quix Streams' gateway ended with {process.returncode}: no figure counts")
    finally:
        process.kill()
        process.wait()


@contextmanager
def ours(settings: StackSettings, topics: SeriesTopics, who: Contender) -> Iterator[None]:
    """A gateway of ours that owns its partitions; drained at the end."""
    with running(series_gateway(settings, topics, "a", model_name=MODEL, delivery=who.delivery)) as process:
        process.wait_for_partitions()
        yield


def measured(settings: StackSettings, topics: SeriesTopics) -> RunResult:
    """The load, on whoever decides these topics."""
    load = Load(
        settings.kafka_bootstrap, SOURCE, f"{RATE}/s", RATE * SECONDS, warm_up_s=WARM_UP_S,
        ticks_topic=topics.ticks, decisions_topic=topics.decisions,
    )  # fmt: skip
    run = drive(load)
    if run.missing:
        raise SystemExit(f"{run.missing} decisions are missing: no figure counts")
    return run


def main() -> None:
    """One after another, each on topics of its own."""
    figures = BenchmarkFigures("quix", f"quix: ours beside a plain Quix Streams gateway, {RATE} ticks/s")
    found: dict[Contender, RunResult] = {}
    with tempfile.TemporaryDirectory(prefix="ultrathink-bench-") as scratch, sandbox(Path(scratch)) as settings:
        python = environment(Path(scratch))
        if isinstance(python, str):
            say(f"  Quix Streams is not measured: its environment cannot be made ({python})")
        for number, who in enumerate(CONTENDERS):
            topics = SeriesTopics(f"quix-{number}", ticks=f"quix-{number}.ticks")
            create_topics(settings, topics.names)
            if who.is_ours:
                with ours(settings, topics, who):
                    found[who] = measured(settings, topics)
            elif isinstance(python, Path):
                with quix(python, settings, topics, who):
                    found[who] = measured(settings, topics)
    for who, run in found.items():
        figures.tell(f"{who.name}: sent to visible p50", run.latency.p50, "ms")
        figures.tell(f"{who.name}: sent to visible p99", run.latency.p99, "ms")
    for mine, their in COMPARED:
        if their in found:
            ratio = found[mine].latency.p99 / found[their].latency.p99
            figures.tell(f"p99, {mine.name} over {their.name}", ratio, "times", at_most=1.0)
    figures.save({who.name: run.latency for who, run in found.items()})


if __name__ == "__main__":
    main()
