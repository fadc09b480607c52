"""`make bench`: how soon a desk stops, and how soon a gateway that was killed decides again; worst of a hundred.

A kill switch counts from the command to the last decision that did not know it. A restart counts from SIGKILL to
the first new decision that a reader of committed records sees, while ticks go on coming.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from msgspec import Struct

from benchmarks.figures import BenchmarkFigures, say
from benchmarks.load import drive
from connectors.kafka.topics import TOPICS
from gateway.control.control import Control
from loadtest.open_loop.watcher import DecisionWatcher
from stack.chaos.feed import Feed
from stack.processes.gateway import GatewayProcess, running_gateway
from stack.servers.settings import StackSettings
from stack.workflows.sandbox import MODELS, sandbox
from trading.risk.trading_state import TradingState

TIMES = int(os.environ.get("BENCH_TIMES", "100"))
KILL_RATE, RESTART_RATE = 2_000, 200.0
#: Between two commands: long enough for the state to arrive, and at another point of a batch each time.
KILLED_S, ACTIVE_S, STEP_S = 0.25, 0.3, 0.0007
#: A resumption, which reads the log and is written once; the sender's start, and what is left over at the end.
RESUME_S, BESIDE_S = 1.0, 20.0
PERCENTILES = (50.0, 100.0)
#: A kill shows something where the desk was deciding freely so shortly before.
WITHIN_NS = 250_000_000


class Kill(Struct, frozen=True):
    """When it was commanded and when it was lifted: Unix time in ns; how long the command itself took, in ms."""

    commanded_ns: int
    lifted_ns: int
    command_ms: float


def kills(settings: StackSettings) -> tuple[list[float], list[float]]:
    """Milliseconds from each command to the last decision that it did not reach; and how long commands took."""
    control = Control(settings.kafka_bootstrap, TOPICS.control, settings.redis_url)
    ticks = int(KILL_RATE * (TIMES * (KILLED_S + ACTIVE_S + TIMES * STEP_S + RESUME_S) + BESIDE_S))
    source = f"simulate:regimes?ticks={ticks}&symbols=16"
    done: list[Kill] = []
    with running_gateway(settings, model_name=MODELS[1]):
        watcher = DecisionWatcher(settings.kafka_bootstrap, TOPICS.decisions)
        given = (settings.kafka_bootstrap, source, f"{KILL_RATE}/s", ticks)
        feed = threading.Thread(target=drive, args=given, daemon=True)
        feed.start()
        while len(watcher.payloads) < 5 * KILL_RATE and feed.is_alive():
            time.sleep(0.01)
        for turn in range(TIMES):
            time.sleep(ACTIVE_S + STEP_S * turn)
            commanded_ns = time.time_ns()
            control.latch(TradingState.KILLED, "measured", "benchmark")
            took_ms = (time.time_ns() - commanded_ns) / 1e6
            time.sleep(KILLED_S)
            done.append(Kill(commanded_ns, time.time_ns(), took_ms))
            control.latch(TradingState.ACTIVE, "measured", "benchmark")
        if not feed.is_alive():
            raise SystemExit("the ticks ended before the last command: no figure counts")
        feed.join()
        watcher.close()
    found = watcher.decisions()
    decided_ns = np.array([d.decided_at_ns for d in found])
    killed = np.array([d.trading_state is TradingState.KILLED for d in found])
    reached = [reached_ms(kill, decided_ns, killed) for kill in done]
    counted = [ms for ms in reached if ms is not None]
    say(f"    {len(counted)} of {TIMES} count: decisions came before the command, and after it")
    if len(counted) < 0.9 * TIMES:
        raise SystemExit("too few count")
    return counted, [kill.command_ms for kill in done]


def reached_ms(kill: Kill, decided_ns: np.ndarray, killed: np.ndarray) -> float | None:
    """From the command to the last decision before the lifting that did not know it; None: it shows nothing."""
    before = (decided_ns > kill.commanded_ns - WITHIN_NS) & (decided_ns <= kill.commanded_ns)
    after = (decided_ns > kill.commanded_ns) & (decided_ns < kill.lifted_ns)
    if not (before & ~killed).any() or not (after & killed).any():
        return None
    missed = decided_ns[after & ~killed]
    return float((missed.max() - kill.commanded_ns) / 1e6) if len(missed) else 0.0


def restarts(settings: StackSettings) -> list[float]:
    """Seconds from each SIGKILL to the next decision."""
    feed = Feed(settings, TOPICS.ticks, 7, RESTART_RATE)
    watcher = DecisionWatcher(settings.kafka_bootstrap, TOPICS.decisions)
    gateway = GatewayProcess(settings, model_name=MODELS[1])
    found = []
    try:
        gateway.start()
        gateway.wait_for_partitions()
        for turn in range(TIMES):
            time.sleep(1.0)
            began = time.monotonic()
            gateway.kill()
            # What was committed before it died may still be on its way to the reader.
            time.sleep(0.1)
            seen = len(watcher.payloads)
            gateway.start()
            while len(watcher.payloads) == seen:
                if time.monotonic() - began > 60.0:
                    raise SystemExit("no decision within a minute of a restart")
                time.sleep(0.002)
            found.append(time.monotonic() - began)
            gateway.wait_for_partitions()
            if turn % 10 == 9:
                say(f"  {turn + 1} of {TIMES} restarts, worst {max(found):.2f} s")
    finally:
        gateway.kill()
        watcher.close()
        feed.close()
    return found


def main() -> None:
    """Both, on one desk."""
    figures = BenchmarkFigures("reactions", "reactions: how soon a desk stops, and a killed gateway is back")
    with tempfile.TemporaryDirectory(prefix="ultrathink-bench-") as folder, sandbox(Path(folder)) as settings:
        say(f"  {TIMES} kill switches at {KILL_RATE:,} ticks/s")
        stopped_ms, command_ms = kills(settings)
        say(f"  {TIMES} restarts at {RESTART_RATE:g} ticks/s")
        back_s = restarts(settings)
    for name, taken, unit, goal in (
        ("kill switch: last decision after the command that did not know it", stopped_ms, "ms", 50.0),
        ("kill switch: the command itself, latched twice", command_ms, "ms", 50.0),
        ("restart after kill -9: to the first decision", back_s, "s", 3.0),
    ):
        middle, worst = np.percentile(taken, PERCENTILES)
        figures.tell(f"{name}, median", float(middle), unit)
        figures.tell(f"{name}, worst of {TIMES}", float(worst), unit, at_most=goal)
    figures.save({"stopped_ms": stopped_ms, "command_ms": command_ms, "back_s": back_s})


if __name__ == "__main__":
    main()
