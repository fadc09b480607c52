"""`make bench`, the trainers' part: no server.

Dataset builds are compared with reading alone, in the same run: what the kernel, labels and Parquet add.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.figures import BenchmarkFigures
from trading.history import open_source
from trainers.data.build import CHUNK, BuildSettings, build
from trainers.data.dataset import open_dataset
from trainers.walk_forward import Trained, TrainSettings, train_all

TICKS = 1_000_000
SECOND = 1_000_000_000


def quiet(*_: object) -> None:
    """Nobody looks."""


def million(path: Path) -> None:
    """A million quotes and trades of four symbols, 250 a second."""
    random = np.random.default_rng(1)
    symbols = random.integers(0, 4, TICKS)
    mids = np.empty(TICKS)
    for k in range(4):
        mine = symbols == k
        mids[mine] = 100.0 * (k + 1) * np.exp(np.cumsum(random.normal(0, 4e-5, mine.sum())))
    traded = random.random(TICKS) < 0.25
    sizes = random.exponential(10.0, (TICKS, 3))
    columns = {
        "event_time_ns": 1_704_067_200 * SECOND + np.cumsum(random.exponential(4e6, TICKS)).astype(np.int64),
        "symbol": pa.array([f"S{k}" for k in symbols.tolist()]),
        "bid": np.where(traded, np.nan, mids * (1 - 5e-5)), "ask": np.where(traded, np.nan, mids * (1 + 5e-5)),
        "bid_size": np.where(traded, np.nan, sizes[:, 0]), "ask_size": np.where(traded, np.nan, sizes[:, 1]),
        "last": np.where(traded, mids, np.nan), "last_size": np.where(traded, sizes[:, 2], np.nan),
    }  # fmt: skip
    pq.write_table(pa.table(columns), path)


def dataset_rate(folder: Path) -> tuple[float, float]:
    """Ticks a second: read only, and built."""
    path = folder / "ticks.parquet"
    million(path)
    build([open_source("simulate:calm?ticks=6000")], BuildSettings(), folder / "warm", quiet)
    best_read = best_build = 0.0
    for turn in range(3):
        began = time.perf_counter()
        read = sum(len(batch) for batch in open_source(f"parquet:{path}").batches(CHUNK))
        best_read = max(best_read, read / (time.perf_counter() - began))
        began = time.perf_counter()
        made = build([open_source(f"parquet:{path}")], BuildSettings(), folder / f"d{turn}", quiet)
        best_build = max(best_build, made.ticks / (time.perf_counter() - began))
        assert made.ticks == TICKS
    return best_read, best_build


def default_training(folder: Path, spec: str, settings: BuildSettings) -> tuple[float, Trained]:
    """Seconds from ticks to evaluated models, and these."""
    began = time.perf_counter()
    build([open_source(spec)], settings, folder, quiet)
    trained = train_all(open_dataset(folder), TrainSettings())
    return time.perf_counter() - began, trained


def main() -> None:
    """Datasets and trainings, one after the other."""
    figures = BenchmarkFigures("trainers", "trainers: two cores, no server")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        read, built = dataset_rate(folder)
        beside = f"reading alone {read:,.0f}, so building takes {read / built:.1f} times as long"
        figures.tell("dataset of a million ticks", built, "ticks/s", at_least=300_000, beside=beside)
        seconds, trained = default_training(folder / "sp500", "skfolio:sp500", BuildSettings())
        figures.tell("default training, build and evaluation included", seconds, "s", at_most=90.0)
        figures.tell("student against teacher, agreement", 100 * trained.reports[-1].agreement, "%", at_least=90.0)
        data = Path(sys.argv[1] if len(sys.argv) > 1 else "../shared/data")
        month = data / "btc_perp_20211231_20220201_1m.csv.gz"
        if month.is_file():
            hour = BuildSettings(horizon_ns=3600 * SECOND)
            seconds, trained = default_training(folder / "month", f"csv:{month}?symbol=BTC", hour)
            agreement = 100 * trained.reports[-1].agreement
            figures.tell("a month of one-minute bars", seconds, "s", at_most=90.0)
            figures.tell("its student against its teacher, agreement", agreement, "%", at_least=90.0)
        else:
            print(f"  a month of one-minute bars: not measured, {month} is absent")
    figures.save()


if __name__ == "__main__":
    main()
