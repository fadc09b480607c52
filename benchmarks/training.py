"""`make bench`: what training costs the desk that it yields to.

Runs of 500 ticks a second without training, without again, and with one that the orchestrator admitted take turns;
ratios are of their percentiles, and the second over the first is the noise. The promise: the desk's p99 stays below
50 ms and below 1.25 times its own, else training stands still; how much of the time it does is told.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families as families

from benchmarks.figures import BenchmarkFigures, say
from loadtest.judging.compare import compare
from loadtest.measuring.result import RunResult
from loadtest.open_loop.drive import Load, drive
from stack.processes.gateway import SeriesTopics, running_gateway
from stack.processes.orchestrator import running_orchestrator
from stack.processes.settings import orchestrator_settings
from stack.servers.kafka import create_topics
from stack.servers.settings import LOOPBACK, StackSettings
from stack.workflows.sandbox import MODELS, sandbox
from trainers.orchestrator.cycle import RunState
from trainers.orchestrator.migrations import prepare
from trainers.orchestrator.runs import RunRequest
from trainers.orchestrator.store import Store

TURNS = int(os.environ.get("BENCH_TURNS", "4"))
SIDES = ("without", "without, again", "with a training")
RATE, DURATION_S, WARM_UP_S = "500/s", 40.0, 10.0
MARKET = "simulate:regimes?seed=1&ticks=2000000&symbols=8"
#: As long as anybody looks: it is cancelled at the end of a run.
SPEC = {"data": ["simulate:regimes?seed=3&ticks=200000&symbols=4"], "training": {"epochs": 200, "folds": 3}}
BEGINS_S, ENDS_S, LOOK_S = 240.0, 90.0, 1.0
MOST_RATIO, MOST_MS = 1.25, 50.0


class Paused:
    """How much of the time training stood still."""

    def __init__(self, port: int) -> None:
        self._address, self._over = f"http://{LOOPBACK}:{port}/metrics", threading.Event()
        self.looks = self.still = 0
        self._problem: Exception | None = None

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Looked at once a second meanwhile."""
        thread = threading.Thread(target=self._keep_looking, daemon=True)
        thread.start()
        began_s, before = time.monotonic(), self.looks
        try:
            yield
        finally:
            self._over.set()
            thread.join()
            self._over.clear()
        if self._problem is not None:
            raise self._problem
        seconds = int(time.monotonic() - began_s)
        if self.looks - before < 0.8 * seconds:
            raise SystemExit(
                f"the orchestrator was asked {self.looks - before} times in {seconds} s: that says little"
            )

    def _keep_looking(self) -> None:
        try:
            self._look()
        except httpx.HTTPError as error:
            self._problem = error

    def _look(self) -> None:
        while not self._over.wait(LOOK_S):
            text = httpx.get(self._address, timeout=5.0).text
            told = {s.name: s.value for family in families(text) for s in family.samples}
            self.looks, self.still = self.looks + 1, self.still + int(told.get("orchestrator_paused", 0.0))


@contextmanager
def training(store: Store) -> Iterator[None]:
    """One that trains, from before the run to its end."""
    run, _ = store.runs.submit(RunRequest(kind="training", spec=SPEC, reason="a benchmark", by="bench"))
    until_s = time.monotonic() + BEGINS_S
    while (now := store.runs.get(run.id)).step != "train" or not now.progress.get("done"):
        if now.state is RunState.ENDED or time.monotonic() > until_s:
            raise SystemExit(f"no training began: {now.why or now.step}")
        time.sleep(LOOK_S)
    try:
        yield
        if store.runs.get(run.id).state is RunState.ENDED:
            raise SystemExit("the training ended before the run did: give it more epochs")
    finally:
        store.runs.cancel(run.id, "the run is over", "bench")
        until_s = time.monotonic() + ENDS_S
        while store.runs.get(run.id).state is not RunState.ENDED and time.monotonic() < until_s:
            time.sleep(LOOK_S)


def measured(settings: StackSettings, store: Store, paused: Paused) -> dict[int, list[RunResult]]:
    """Runs of each side, taking turns."""
    topics = SeriesTopics("bench-training", "bench-training.ticks")
    create_topics(settings, topics.names)
    load = Load(
        settings.kafka_bootstrap, MARKET, RATE, duration_s=DURATION_S, warm_up_s=WARM_UP_S,
        ticks_topic=topics.ticks, decisions_topic=topics.decisions,
    )  # fmt: skip
    runs: dict[int, list[RunResult]] = {side: [] for side in range(len(SIDES))}
    for turn in range(TURNS):
        for side in [*range(turn % 3, 3), *range(turn % 3)]:
            with running_gateway(settings, **topics.settings(), model_name=MODELS[1]):
                if side == len(SIDES) - 1:
                    with training(store), paused.watched():
                        found = drive(load, settings={"side": SIDES[side]})
                else:
                    found = drive(load, settings={"side": SIDES[side]})
            runs[side].append(found)
            took = found.latency
            say(f"  turn {turn + 1} of {TURNS}, {SIDES[side]}: p50 {took.p50:.2f} ms, p99 {took.p99:.2f} ms")
    return runs


def main() -> None:
    """All of it, and benchmarks/results/training.json."""
    figures = BenchmarkFigures("training", "what training costs the desk")
    with (
        tempfile.TemporaryDirectory(prefix="ultrathink-bench-") as folder,
        sandbox(Path(folder) / "home", show=say) as on,
    ):
        desk = f"http://{LOOPBACK}:{on.ports.gateway_metrics}/metrics"
        with running_orchestrator(on, memory_mb=8_000, desk_metrics=desk):
            url = orchestrator_settings().postgres_url.get_secret_value()
            prepare(url)
            with closing(Store(url)) as store:
                paused = Paused(on.ports.orchestrator)
                runs = measured(on, store, paused)
    for side in (1, 2):
        for one in compare(runs[0], runs[side]):
            if one.figure not in {"p50, ms", "p99, ms"}:
                continue
            figures.tell(
                f"{SIDES[side]} over without: {one.figure.removesuffix(', ms')}", one.ratio, "times",
                at_most=MOST_RATIO if side == 2 and one.figure == "p99, ms" else None,
                beside=f"95 % {one.low:.3f} to {one.high:.3f}, {one.verdict}; {one.a:.4g} ms to {one.b:.4g} ms",
            )  # fmt: skip
    worst = max(found.latency.p99 for found in runs[2])
    figures.tell("p99 with a training, worst run", worst, "ms", at_most=MOST_MS)
    share = paused.still / max(1, paused.looks)
    figures.tell("time for which training stood still", share * 100.0, "%", beside=f"of {paused.looks} s")
    figures.save()


if __name__ == "__main__":
    main()
