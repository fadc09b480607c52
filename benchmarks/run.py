"""`make bench`, the gateway's part: what the issue asks to be measured, each figure beside its goal.

Needs nothing running: it brings up a stack of its own, trains briefly, and takes it down again. All servers, the
sender and the reader share this machine. Ratios are of runs in the same session; the bare client's latency says
how fast the machine was meanwhile. The recorded feed is looked for in $ULTRATHINK_DATA or ../shared/data; without
it the simulator is used, and the output says so. BENCH_PARTS=real_gaps,naive runs only those.
"""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
from msgspec import structs

from benchmarks.figures import BenchmarkFigures, say
from benchmarks.load import FEED_TICKS, drive, recorded_feed
from benchmarks.load import send_only as send
from benchmarks.naive import decisions_per_s
from connectors.kafka.topics import TOPICS
from connectors.redis import open_client
from exporters.performance.latency import measure as ask
from gateway.adapters.redis_reservations import RedisReservations
from loadtest.measuring.latencies import LatencySeries
from loadtest.measuring.result import RunResult
from loadtest.open_loop.child_process import ends_of
from stack.processes.gateway import GatewayProcess, running_gateway
from stack.processes.scrape import quantile_ms
from stack.servers.kafka import create_topics
from stack.servers.settings import StackSettings
from stack.workflows.sandbox import MODELS, below, rate_between, sandbox
from trading.features.engine import FeatureEngine
from trading.history import open_source
from trading.market import TickBatch
from trading.models.signature import contract

MARKET = "simulate:regimes?ticks={}&symbols=16"
REAL_GAP_TICKS = int(os.environ.get("BENCH_TICKS", "12000"))
WARM_UP_S = int(os.environ.get("BENCH_WARM_UP_S", "30"))
#: An hour of the feed at 20 times its speed takes three minutes.
SOAK_REPEATS = int(os.environ.get("BENCH_SOAK", "10"))
RATES = (1_000, 5_000, 15_000, 25_000)
#: Rows of a call, a backlog that lasts some seconds at them, and the goal: the gateway's rate over a bare client's.
BACKLOGS = {8: (30_000, 0.5), 64: (150_000, 0.4), 256: (250_000, 0.25), 1024: (300_000, 0.2)}
FOREVER_MS = 3_600_000
HANDLED = "gateway_handled_seconds"


figures = BenchmarkFigures("gateway", "gateway: a desk on this machine, all servers on it")
tell = figures.tell


# ---- one core, no server ----------------------------------------------------------------------


def kernel() -> None:
    say("feature kernel, one core:")
    ticks = [r.tick for r in open_source("simulate:regimes?ticks=200000&symbols=20").records()]
    batch = TickBatch.from_ticks(ticks)
    FeatureEngine().update(TickBatch.from_ticks(ticks[:10]))
    best = 0.0
    for _ in range(5):
        engine, start = FeatureEngine(), time.perf_counter()
        engine.update(batch)
        best = max(best, len(batch) / (time.perf_counter() - start))
    tell("kernel, large batches", best, "ticks/s", at_least=1e6)


# ---- the whole desk ---------------------------------------------------------------------------


def observed(running: GatewayProcess, run: Callable[[], RunResult]) -> tuple[RunResult, dict[str, float]]:
    """A run, and what the gateway says of it: shares and quantiles of received to published, in ms."""
    before = running.scrape()
    driven = run()
    now = running.scrape()
    found = {f"p{q * 100:g}": quantile_ms(before, now, HANDLED, q) for q in (0.5, 0.99, 0.999)}
    found["below_5_ms"], found["below_25_ms"] = (below(before, now, HANDLED, bound) for bound in (0.005, 0.025))
    for stage in ("queue", "features", "inference", "decide", "publish"):
        for q in (0.5, 0.99):
            found[f"{stage}_p{q * 100:g}"] = quantile_ms(before, now, "gateway_stage_seconds", q, stage=stage)
    return driven, found


def real_gaps(settings: StackSettings, feed: str, results: dict[str, object]) -> None:
    """Latency at the gaps of the recorded feed, and where it goes."""
    cases = [
        ("fused", {"model_name": MODELS[1]}, True),
        ("ensemble", {"model_name": MODELS[0]}, False),
        ("fused, at least once", {"model_name": MODELS[1], "delivery": "at-least-once"}, False),
    ]
    for name, given, is_goal in cases:
        say(f"the feed at its real gaps, {name}:")
        with running_gateway(settings, **given) as running:
            driven, inside = observed(
                running, lambda: drive(settings.kafka_bootstrap, feed, "real", REAL_GAP_TICKS)
            )
        results[f"real gaps, {name}"] = {"driven": brief(driven), "inside": inside}
        checked(driven)
        goal = (5.0, 25.0, 20.0) if is_goal else (None, None, None)
        tell(f"received to committed p50, {name}", inside["p50"], "ms")
        tell(f"received to committed p99, {name}", inside["p99"], "ms", at_most=goal[0])
        tell(f"received to committed p99.9, {name}", inside["p99.9"], "ms", at_most=goal[1])
        tell(f"sent to visible p50, {name}", driven.latency.p50, "ms")
        tell(f"sent to visible p99, {name}", driven.latency.p99, "ms", at_most=goal[2])
        stages = {k: v for k, v in inside.items() if "_p" in k}
        say(f"    where the time goes, p50/p99 below: {stages}")


def sustained(settings: StackSettings, results: dict[str, object]) -> None:
    """Constant rates: what is kept, and how late."""
    say("sustained, fused (a rate is kept where all came back and the last came with the sender's end):")
    with running_gateway(settings, model_name=MODELS[1]) as running:
        for rate in RATES:
            driven, inside = observed(
                running,
                lambda rate=rate: drive(  # type: ignore[misc]
                    settings.kafka_bootstrap, MARKET.format(rate * 10), f"{rate}/s", rate * 10
                ),
            )
            results[f"sustained {rate}"] = {"driven": brief(driven), "inside": inside}
            checked(driven)
            kept = driven.achieved_per_s > 0.97 * rate
            tell(f"{rate:,} ticks/s offered: achieved", driven.achieved_per_s, "ticks/s")
            goal = 50.0 if rate == RATES[-1] else None
            tell(
                f"{rate:,} ticks/s: sent to visible p99",
                driven.latency.p99 if kept else math.inf,
                "ms",
                at_most=goal,
            )
            tell(f"{rate:,} ticks/s: held, superseded or late", sum(driven.undecided.values()) / driven.planned, "")


def brief(driven: RunResult) -> dict[str, object]:
    """A run without its series and samples."""
    return msgspec.to_builtins(structs.replace(driven, series=LatencySeries(1.0, [], [], []), servers=[]))  # type: ignore[no-any-return]


def checked(driven: RunResult) -> None:
    if driven.missing or driven.repeated:
        raise SystemExit(
            f"{driven.missing} decisions are missing and {driven.repeated} are repeated: no figure counts"
        )


def against_bare_client(settings: StackSettings, results: dict[str, object]) -> None:
    """A backlog through the gateway against a client that only asks the model."""
    say("rows a second, a backlog through the gateway (fused, exactly once) over one bare gRPC client:")
    signature = contract(MODELS[1])
    rows = {}
    for batch, (count, goal) in BACKLOGS.items():
        send(settings.kafka_bootstrap, MARKET.format(count), "max", count)
        with running_gateway(settings, model_name=MODELS[1], budget_ms=FOREVER_MS, max_batch=batch) as running:
            ours = rate_between(running, count)
            drained(running)
        bare = ask(settings.triton_grpc, signature, 1, clients=1, batch=batch, seconds=3.0)
        rows[batch] = {"gateway_per_s": ours, "bare_per_s": bare.rows_per_s, "bare_p50_ms": bare.p50_ms}
        tell(f"batch {batch}: gateway", ours, "rows/s")
        tell(f"batch {batch}: bare client", bare.rows_per_s, "rows/s")
        tell(f"batch {batch}: gateway over bare client", ours / bare.rows_per_s, "times", at_least=goal)
    results["rows_per_s"] = rows


def drained(running: GatewayProcess) -> None:
    """Until nothing more is decided."""
    last = -1.0
    while (done := running.decided()) != last:
        last = done
        time.sleep(1.0)


def against_naive(settings: StackSettings, results: dict[str, object]) -> None:
    """A backlog through the gateway against one call, flush and commit a tick."""
    say("against a naive gateway: one blocking call a tick (ensemble on both sides):")
    count = 250_000
    send(settings.kafka_bootstrap, MARKET.format(count), "max", count)
    create_topics(settings, {"naive.decisions": TOPICS.decisions})
    ends = ends_of(settings.kafka_bootstrap, TOPICS.ticks)
    partition = max(ends, key=lambda p: ends[p])
    naive = decisions_per_s(
        settings.kafka_bootstrap, settings.triton_grpc, MODELS[0], partition, ends[partition] - 3_000, 2_000,
        "naive.decisions",
    )  # fmt: skip
    with running_gateway(settings, model_name=MODELS[0], budget_ms=FOREVER_MS) as running:
        ours = rate_between(running, count)
        drained(running)
    results["naive"] = {"naive_per_s": naive, "gateway_per_s": ours}
    tell("naive gateway", naive, "decisions/s")
    tell("ours", ours, "decisions/s")
    tell("ours over naive", ours / naive, "times", at_least=20)


def replay(settings: StackSettings, results: dict[str, object]) -> None:
    """Catching up without any snapshot."""
    say("catch-up without emission: a restart without any snapshot, the whole log:")
    create_topics(settings, {"bench.snapshots": TOPICS.snapshots})
    client = open_client(settings.redis_url)
    client.delete(*(f"ultrathink:snapshot:gateway:{p}" for p in range(settings.partitions)))
    client.close()
    with running_gateway(settings, snapshots_topic="bench.snapshots") as running:
        found = running.scrape()
    ticks, seconds = found.value("gateway_replayed_ticks_total"), found.value("gateway_restore_seconds_sum")
    replay_s = found.value("gateway_replay_seconds_total")
    results["replay"] = {"ticks": ticks, "seconds": seconds, "replay_seconds": replay_s}
    tell("ticks replayed", ticks, "ticks")
    tell("replay of ticks", ticks / replay_s, "ticks/s", at_least=100_000)
    tell("with reading all decisions for the positions", ticks / seconds, "ticks/s")


def reservations(settings: StackSettings, results: dict[str, object]) -> None:
    """What the common limit costs while deciding and behind it."""
    say("the desk's common limit: what a reservation costs")
    books = RedisReservations(settings.redis_url, f"bench-{time.time_ns()}", "bench", lambda: 1e6)
    client = open_client(settings.redis_url)
    try:
        for partition in range(settings.partitions):
            books.quota(partition, 0.0)
        books.renew()
        rounds = []
        for _ in range(2_000):
            began = time.perf_counter()
            books.renew()
            rounds.append((time.perf_counter() - began) / settings.partitions)
        pings = []
        for _ in range(2_000):
            began = time.perf_counter()
            client.ping()
            pings.append(time.perf_counter() - began)
        began = time.perf_counter()
        for k in range(100_000):
            books.quota(k % 4, 0.0)
        quota_us = (time.perf_counter() - began) / 100_000 * 1e6
    finally:
        books.close()
        client.close()
    results["reservations"] = {"renew_us": float(np.median(rounds) * 1e6), "quota_us": quota_us}
    tell("while deciding: one look at what is reserved", quota_us, "us")
    tell("in the background: one book's renewal, p50", float(np.median(rounds)) * 1e6, "us")
    tell("in the background: one book's renewal, p99", float(np.quantile(rounds, 0.99)) * 1e6, "us")
    tell("a renewal over a bare PING", float(np.median(rounds) / np.median(pings)), "times")


def memory(settings: StackSettings, feed: str, results: dict[str, object]) -> None:
    """Growth over an hour of the feed."""
    hours = SOAK_REPEATS * 344 / 3600
    say(f"memory over {hours:.1f} h of the feed at 20 times its speed:")
    with running_gateway(settings, model_name=MODELS[1]) as running:
        servers = {"gateway": running.pid}
        driven = drive(settings.kafka_bootstrap, feed, "20x", FEED_TICKS * SOAK_REPEATS, servers=servers)
    samples = next(s.memory_mb for s in driven.servers if s.name == "gateway")
    checked(driven)
    # The first third fills buffers that are then used again.
    settled = np.array(samples[len(samples) // 3 :])
    slope = float(np.polyfit(np.arange(len(settled)), settled, 1)[0])
    ticks_per_s = driven.offered_per_s
    results["memory"] = {"samples_mb": samples, "driven": brief(driven)}
    tell("memory at the end", float(settled[-5:].mean()), "MB")
    tell("growth", 100 * slope * len(settled) / float(settled.mean()), "% over the run", at_most=3.0)
    tell("growth a tick", max(0.0, slope * 2**20 / ticks_per_s), "bytes")


def main() -> None:
    """A desk of its own, warmed, and the parts of BENCH_PARTS."""
    results: dict[str, object] = {}
    kernel()
    feed = recorded_feed()
    with tempfile.TemporaryDirectory() as folder, sandbox(Path(folder) / "home") as settings:
        bare = ask(settings.triton_grpc, contract(MODELS[1]), 1, clients=1, batch=1, seconds=2.0)
        tell("bare client, fused, batch 1: p50", bare.p50_ms, "ms")
        say("warming up: a broker that has just started still compiles itself")
        with running_gateway(settings, model_name=MODELS[1]):
            for rate in (1_000, 10_000, 1_000):
                drive(settings.kafka_bootstrap, MARKET.format(rate * WARM_UP_S), f"{rate}/s", rate * WARM_UP_S)
        parts: dict[str, Callable[[], None]] = {
            "real_gaps": lambda: real_gaps(settings, feed, results),
            "sustained": lambda: sustained(settings, results),
            "bare_client": lambda: against_bare_client(settings, results),
            "naive": lambda: against_naive(settings, results),
            "reservations": lambda: reservations(settings, results),
            "replay": lambda: replay(settings, results),
            "memory": lambda: memory(settings, feed, results),
        }
        for name in os.environ.get("BENCH_PARTS", ",".join(parts)).split(","):
            parts[name]()
    figures.save(results)


if __name__ == "__main__":
    main()
