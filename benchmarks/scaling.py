"""`make bench`: what a decision costs each process, and how far that tells what a core of a gateway does.

Ticks come at several rates, and processor time is taken of each process; then a backlog is decided by a gateway
with a core of its own, which the costs are held against. docs/scaling.md extrapolates from these figures.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import psutil
from scipy.optimize import nnls

from benchmarks.figures import BenchmarkFigures, say
from benchmarks.load import drive, send_only
from stack.processes.forensics import running_forensics, settings_with_key
from stack.processes.gateway import GatewayProcess, running_gateway
from stack.servers.settings import StackSettings
from stack.supervision.status import read_status
from stack.workflows.sandbox import MODELS, sandbox

#: Up to what two cores keep with everything beside it.
RATES = (250, 500, 1_000, 2_000, 3_000, 4_500)
SPAN_S, WARM_S = 15, 2.0
BACKLOG = 60_000
SYMBOLS = 64
SOURCE = f"simulate:regimes?ticks={BACKLOG}&symbols={SYMBOLS}"
#: Whenever a tick of the backlog is decided.
PATIENT = {"budget_ms": "3600000", "shed_below_ms": "0"}
US = 1e6
#: What cores are spent on: decisions, and batches, each a call of the model and a transaction.
DRIVERS = {"decisions": "gateway_ticks_total", "batches": "gateway_batch_rows_count"}
COSTED = ("gateway", "triton", "kafka", "forensics", "postgres")


def processes(settings: StackSettings, more: Mapping[str, int]) -> dict[str, list[psutil.Process]]:
    """Name -> a process and its children; of Kafka all brokers together."""
    status = read_status(settings.absolute_home)
    if status is None:
        raise SystemExit("the servers have told no status")
    pids = {s.name: s.process.pid for s in status.services if s.process is not None} | dict(more)
    found: dict[str, list[psutil.Process]] = {}
    for name, pid in pids.items():
        one = psutil.Process(pid)
        found.setdefault(name.partition("-")[0], []).extend([one, *one.children(recursive=True)])
    return found


def spent_s(some: Mapping[str, list[psutil.Process]]) -> dict[str, float]:
    """Processor time so far, of user and system."""
    found = {}
    for name, group in some.items():
        found[name] = 0.0
        for one in group:
            # A child may have ended.
            with contextlib.suppress(psutil.NoSuchProcess):
                told = one.cpu_times()
                found[name] += told.user + told.system
    return found


@contextlib.contextmanager
def pinned(some: Mapping[str, list[psutil.Process]], alone: str) -> Iterator[None]:
    """One has the first core for itself, and everybody else, who measures too, the others."""
    cores = sorted(os.sched_getaffinity(0))
    own, others = {cores[0]}, set(cores[1:])
    if not others:
        raise SystemExit("a core for the gateway and one for the rest: this machine has one")
    pin(os.getpid(), others)
    for name, group in some.items():
        for one in group:
            pin(one.pid, own if name == alone else others)
    try:
        yield
    finally:
        for pid in (os.getpid(), *(one.pid for group in some.values() for one in group)):
            pin(pid, set(cores))


def pin(pid: int, cores: set[int]) -> None:
    """Every thread of a process."""
    for task in Path(f"/proc/{pid}/task").glob("*"):
        with contextlib.suppress(OSError):
            os.sched_setaffinity(int(task.name), cores)


def costs(settings: StackSettings, gateway: GatewayProcess, trail: int) -> list[dict[str, float]]:
    """Of each rate: decisions and batches a second, and the cores that each process takes."""
    found = []
    # What a first minute costs, compiling and reading what lies there, is no decision's.
    drive(settings.kafka_bootstrap, SOURCE, "1000/s", 1_000 * SPAN_S, warm_up_s=WARM_S)
    for rate in RATES:
        groups = processes(settings, {"gateway": gateway.pid, "forensics": trail})
        before, began, told = spent_s(groups), time.monotonic(), gateway.scrape()
        run = drive(settings.kafka_bootstrap, SOURCE, f"{rate}/s", int(rate * SPAN_S), warm_up_s=WARM_S)
        after, took, now = spent_s(groups), time.monotonic() - began, gateway.scrape()
        if run.missing or run.repeated:
            raise SystemExit(
                f"{run.missing} decisions are missing and {run.repeated} are repeated: no figure counts"
            )
        rates = {name: (now.value(metric) - told.value(metric)) / took for name, metric in DRIVERS.items()}
        found.append(rates | {name: (after[name] - before[name]) / took for name in groups})
        cores = ", ".join(f"{name} {found[-1][name]:.0%}" for name in COSTED)
        say(f"  {rates['decisions']:,.0f} decisions/s in {rates['batches']:.0f} batches/s; of a core: {cores}")
    return found


def fitted(rows: list[dict[str, float]], name: str) -> tuple[float, float, float]:
    """Seconds of a core a batch and a decision, neither below zero, and the worst miss as a share of the most.

    Lawson and Hanson's non-negative least squares: a batch costs what it costs for one row, a row what it adds.
    """
    drivers = np.array([[row[one] for one in ("batches", "decisions")] for row in rows])
    cores = np.array([row[name] for row in rows])
    found, _ = nnls(drivers, cores)
    return float(found[0]), float(found[1]), float(np.abs(drivers @ found - cores).max() / cores.max())


def backlog(settings: StackSettings) -> dict[str, float]:
    """Decisions a second of a gateway with a core of its own, how busy that was, and what one costs there."""
    send_only(settings.kafka_bootstrap, SOURCE, "max", BACKLOG)
    gateway = GatewayProcess(settings, model_name=MODELS[1], **PATIENT)
    gateway.start()
    try:
        while not gateway.partitions():
            time.sleep(0.05)
        groups = processes(settings, {"gateway": gateway.pid})
        with pinned(groups, "gateway"):
            # From a tenth of it on: the first batches are of a start.
            while gateway.decided() < BACKLOG / 10:
                time.sleep(0.02)
            before, began, told = spent_s(groups), time.monotonic(), gateway.scrape()
            while gateway.decided() < 0.95 * BACKLOG:
                time.sleep(0.02)
            after, took, now = spent_s(groups), time.monotonic() - began, gateway.scrape()
    finally:
        gateway.kill()
    rates = {name: (now.value(metric) - told.value(metric)) / took for name, metric in DRIVERS.items()}
    return rates | {name: (after[name] - before[name]) / took for name in groups}


def bytes_below(folder: Path) -> int:
    """Of all files."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main() -> None:
    """Costs by rate, then a backlog."""
    figures = BenchmarkFigures("scaling", "scaling: what a decision costs, and what that tells")
    with tempfile.TemporaryDirectory(prefix="ultrathink-bench-") as folder, sandbox(Path(folder)) as settings:
        settings_with_key()
        home = settings.absolute_home
        with running_gateway(settings, model_name=MODELS[1]) as gateway, running_forensics(settings) as trail:
            stored = {name: bytes_below(home / name) for name in ("kafka", "postgres")}
            by_rate = costs(settings, gateway, trail.pid)
            decided = gateway.decided()
            grown = {name: (bytes_below(home / name) - before) / decided for name, before in stored.items()}
        held = backlog(settings)
    for name in COSTED:
        batch, decision, error = fitted(by_rate, name)
        figures.tell(
            f"{name}: of a core, a batch", US * batch, "us",
            beside=f"and {US * decision:.1f} us each decision in it; {error:.0%} of the most off that at worst",
        )  # fmt: skip
    figures.tell(
        "Kafka's disk, a tick with all that follows", grown["kafka"], "B", beside="one replica, uncompressed"
    )
    figures.tell("PostgreSQL's disk, a decision on record", grown["postgres"], "B", beside="with its own log")
    batch, decision, _ = fitted(by_rate, "gateway")
    told, spent = batch * held["batches"] + decision * held["decisions"], held["gateway"]
    figures.tell(
        "a gateway with a core of its own, a backlog", held["decisions"], "decisions/s",
        beside=f"{held['decisions'] / held['batches']:.0f} in a batch; its core is {spent:.0%} busy",
    )  # fmt: skip
    figures.tell("cores of that, by the costs over measured", told / spent, "times")
    figures.tell("a gateway's core, full, at such batches", held["decisions"] / spent, "decisions/s")
    figures.save({"by rate": by_rate, "backlog": held})


if __name__ == "__main__":
    main()
