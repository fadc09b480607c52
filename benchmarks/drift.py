"""`make bench`, the part of drift: false alarms on markets that stay what they are, how soon a change is found, and
whether that is worth more than always, or never, to train anew. No server.

Stationary are ten simulated markets, and the recorded ones with their blocks in another order: whatever a market
was like, an order that chance has made holds no change.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.figures import BenchmarkFigures
from stack.workflows.training.report import MARKETS
from stack.workflows.training.settings import TrainRequest
from trading.arrays import FloatArray
from trading.history import open_source
from trading.spans import parse_span
from trainers.costs import Costs
from trainers.data.build import BuildSettings, build
from trainers.data.dataset import Dataset, open_dataset
from trainers.online.drift import Alarm, DriftSettings, block_size, measures_alarms, watch
from trainers.online.networks import Networks
from trainers.online.worth import Observed, observe_rows
from trainers.walk_forward import TrainSettings, train_all

HORIZON_NS = 1_000_000_000
REFERENCE, STATIONARY, CHANGED = 80_000, 200_000, 120_000
SEEDS, PERMUTATIONS = 10, 20
PLANTED = ("contrary", "calm", "regimes", "crash")
PER_SEED = 3
#: What a training costs, in rows: at a hundred ticks a second it takes so long to train, compare and promote.
TRAINING_ROWS = 20_000
#: A market that changes so often.
CHANGES_EVERY = 500_000
#: After so many rows at most a change is found: a tenth of what it lasts.
MOST_DELAY = CHANGES_EVERY / 10


def quiet(*_: object) -> None:
    """Nobody looks."""


def dataset(spec: str, folder: Path, horizon_ns: int = HORIZON_NS) -> Dataset:
    """Built and opened."""
    build([open_source(spec)], BuildSettings(horizon_ns=horizon_ns), folder, quiet)
    return open_dataset(folder)


def simulated(spec: str, networks: Networks) -> Observed:
    """Rows of a simulated market, asked about."""
    with tempfile.TemporaryDirectory() as scratch:
        data = dataset(spec, Path(scratch) / "data")
        return observe_rows(networks, data, np.flatnonzero(data.labels.valid), Costs())


def champion(data: Dataset, settings: TrainSettings) -> Networks:
    """Of a training's last fold."""
    fold = train_all(data, settings).folds[-1]
    return Networks(fold.regime, fold.signals, fold.meta, fold.teacher)


def moments(alarms: list[Alarm]) -> int:
    """Different times at which anything was told: several features that move together are one alarm."""
    return len({alarm.rows for alarm in alarms})


def false_alarms(told: BenchmarkFigures, networks: Networks) -> tuple[Observed, float]:
    """Of simulated markets that stay what they are; a reference, and alarms a row."""
    settings, alarms, rows = DriftSettings(), 0, 0
    reference: Observed | None = None
    for seed in range(SEEDS):
        seen = simulated(f"simulate:signal?seed={100 + seed}&ticks={REFERENCE + STATIONARY}&symbols=4", networks)
        usual, later = seen.part(slice(0, REFERENCE)), seen.part(slice(REFERENCE, None))
        alarms += moments(watch(usual, later, settings))
        rows += len(later)
        reference = reference or usual
    assert reference is not None
    told.tell(
        "false alarms, simulated markets that stay what they are", alarms / rows * 100_000, "in 100,000 rows",
        at_most=1.0, beside=f"{alarms} in {rows:,} rows of {SEEDS} markets",
    )  # fmt: skip
    return reference, alarms / rows


def delays(told: BenchmarkFigures, networks: Networks, reference: Observed) -> float:
    """How many rows after a planted change it is told; the median of the hardest."""
    settings, hardest = DriftSettings(), 0.0
    for scenario in PLANTED:
        found = []
        for seed in range(PER_SEED):
            seen = simulated(f"simulate:{scenario}?seed={70 + seed}&ticks={CHANGED}&symbols=4", networks)
            alarms = watch(reference, seen, settings)
            # What is not found costs all until the next change.
            found.append(alarms[0].rows if alarms else CHANGES_EVERY)
        median = float(np.median(found))
        hardest = max(hardest, median)
        what = "quotes foretell the opposite" if scenario == "contrary" else f"another market: {scenario}"
        told.tell(
            f"delay, {what}", median, "rows", at_most=MOST_DELAY,
            beside=f"median of {PER_SEED}: {', '.join(f'{n:,}' for n in found)}",
        )  # fmt: skip
    told.tell("blocks of the simulated market", block_size(reference, settings), "rows")
    return hardest


def costs(told: BenchmarkFigures, a_row: float, delay: float) -> None:
    """Rows that a way costs in each hundred: those that are traded by a model that is wrong, and those that a
    training takes.

    The market changes every CHANGES_EVERY rows, and half of the change is lost until somebody trains anew.
    """
    ours = (delay + TRAINING_ROWS) / CHANGES_EVERY + a_row * TRAINING_ROWS
    never = 1.0
    # One training behind the other: each row costs its part of one, and a wrong model is replaced after one.
    always = 1.0 + TRAINING_ROWS / CHANGES_EVERY
    beside = f"a change in {CHANGES_EVERY:,} rows, a training costs {TRAINING_ROWS:,}"
    told.tell("cost of detecting, against never training anew", ours / never, "x", at_most=1.0, beside=beside)
    told.tell("cost of detecting, against always training anew", ours / always, "x", at_most=1.0, beside=beside)


def permuted(told: BenchmarkFigures, folder: Path) -> None:
    """False alarms on recorded markets whose blocks chance has put in order."""
    alarms = rows = used = 0
    for market in MARKETS:
        if market.file is not None and not (folder / market.file).is_file():
            continue
        path = "" if market.file is None else str(folder / market.file)
        request = TrainRequest((market.source,), market.bars, market.horizon, fee_bps=market.fee_bps)
        with tempfile.TemporaryDirectory() as scratch:
            data = dataset(market.source.format(path), Path(scratch) / "data", parse_span(market.horizon))
            networks = champion(data, request.settings())
            seen = observe_rows(networks, data, np.flatnonzero(data.labels.valid), Costs())
        size = DriftSettings().block_rows
        measured = seen.measures(size)
        for seed in range(PERMUTATIONS):
            order = np.random.default_rng(seed).permutation(len(measured))
            half = len(order) // 2
            usual, later = measured[order[:half]], measured[order[half:]]
            alarms += moments(measures_alarms(usual, later, size, DriftSettings()))
            rows += len(later) * size
        used += 1
    if rows:
        told.tell(
            "false alarms, recorded markets in an order of chance", alarms / rows * 100_000, "in 100,000 rows",
            at_most=1.0, beside=f"{alarms} in {rows:,} rows of {used} markets, measures alone",
        )  # fmt: skip


def main(folder: str) -> None:
    """All of it, and benchmarks/results/drift.json."""
    told = BenchmarkFigures("drift", "Drift")
    with tempfile.TemporaryDirectory() as scratch:
        taught = dataset("simulate:signal?seed=2&ticks=60000&symbols=4", Path(scratch) / "taught")
    networks = champion(taught, TrainSettings(folds=1))
    reference, a_row = false_alarms(told, networks)
    hardest = delays(told, networks, reference)
    costs(told, a_row, hardest)
    permuted(told, Path(folder))
    told.save(details(reference))


def details(reference: Observed) -> dict[str, Any]:
    """What the reference shows of itself."""
    size = block_size(reference, DriftSettings())
    found: FloatArray = reference.measures(size)
    return {"block_rows": size, "mean": found.mean(axis=0).tolist(), "deviation": found.std(axis=0).tolist()}


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "../shared/data")
