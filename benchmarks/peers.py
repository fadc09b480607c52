"""`make bench`, what others measure: the same model asked by perf_analyzer, by bare clients, by us, in one run.

perf_analyzer is the binary of the tritonclient 2.41 wheel, fetched by its hash; it needs Debian's libb64-0d,
and says so where that is missing. A bare client of the open model is what ghz does: calls at their times,
none waits for another. All of them take turns on one server.
"""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np

from benchmarks.figures import BenchmarkFigures, say
from benchmarks.load import drive
from exporters.performance.latency import measure as ask
from loadtest.open_loop.calls import ModelLoad, drive_model
from loadtest.open_loop.rows import feature_rows
from stack.processes.gateway import running_gateway
from stack.servers.settings import StackSettings
from stack.workflows.sandbox import MODELS, sandbox
from trading.models.signature import FEATURES_TENSOR, contract

#: The last wheel with the binary in it.
PINNED = "tritonclient==2.41.0 --hash=sha256:cf4ed5df836fa99937678a9fd852f86ba05c7b83656dd0a540e20afdb9ab4629"
BINARY = "tritonclient-2.41.0.data/data/bin/perf_analyzer"
MODEL = MODELS[1]
BATCHES, CALLERS = (1, 8, 64), (1, 2)
WINDOW_MS, RATE = 4000, 200
MARKET = "simulate:regimes?ticks=20000&symbols=16"


def perf_analyzer(folder: Path) -> tuple[list[str], dict[str, str]] | str:
    """The command and its environment, or why it cannot run here."""
    binary = fetch(folder)
    if isinstance(binary, str):
        return binary
    # It is linked against CUDA's runtime, which torch brought.
    libraries = {os.fspath(p.parent) for p in Path(sys.prefix).rglob("libcudart.so.12")}
    environment = {**os.environ, "LD_LIBRARY_PATH": ":".join(sorted(libraries))}
    version = [os.fspath(binary), "--version"]
    tried = subprocess.run(version, env=environment, capture_output=True, text=True, check=False)
    if tried.returncode == 127:
        missing = re.search(r"(lib\S+): cannot open", tried.stderr)
        return f"{missing[1] if missing else 'a library'} is missing (Debian: libb64-0d)"
    return [os.fspath(binary)], environment


def fetch(folder: Path) -> Path | str:
    """The binary from $PERF_ANALYZER or from the pinned wheel."""
    if given := os.environ.get("PERF_ANALYZER"):
        return Path(given)
    (folder / "pinned.txt").write_text(PINNED + "\n")
    done = subprocess.run(
        [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps",
         "--require-hashes", "--platform", "manylinux1_x86_64", "-r", "pinned.txt", "-d", "."],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        return f"its wheel cannot be fetched: {(done.stderr.strip().splitlines() or ['pip failed'])[-1]}"
    with zipfile.ZipFile(next(folder.glob("tritonclient-2.41.0-*.whl"))) as wheel:
        binary = Path(wheel.extract(BINARY, folder))
    binary.chmod(0o755)
    return binary


def analyse(
    command: list[str], environment: dict[str, str], settings: StackSettings, batch: int, callers: int, folder: Path
) -> dict[str, float]:
    """perf_analyzer's own words: a closed loop of `callers`; milliseconds, and rows a second."""
    rows = feature_rows()
    # Real rows for it too: its own would be zeros or noise.
    data = {
        "data": [
            {
                FEATURES_TENSOR.name: {
                    "content": np.take(rows, [k], axis=0).ravel().tolist(),
                    "shape": [rows.shape[1]],
                }
            }
            for k in range(64)
        ]
    }
    given, report = folder / "rows.json", folder / "report.csv"
    given.write_text(json.dumps(data))
    done = subprocess.run(
        [*command, "-m", MODEL, "-u", settings.triton_grpc, "-i", "grpc", "-b", str(batch),
         "--concurrency-range", str(callers), "--input-data", str(given), "-p", str(WINDOW_MS), "-f", str(report),
         "--percentile", "50", "-s", "50"],
        env=environment, capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    if not report.is_file():
        raise RuntimeError(f"perf_analyzer failed: {done.stdout[-500:]} {done.stderr[-500:]}")
    with report.open() as file:
        row = next(csv.DictReader(file))
    return {
        "rows_per_s": float(row["Inferences/Second"]),
        "p50_ms": float(row["p50 latency"]) / 1e3,
        "p99_ms": float(row["p99 latency"]) / 1e3,
    }


def main() -> None:
    """All of them in turns on one desk."""
    figures, details = BenchmarkFigures("peers", f"peers: the same model ({MODEL}) asked by others, in one run"), {}
    with tempfile.TemporaryDirectory() as scratch, sandbox(Path(scratch) / "home") as settings:
        folder = Path(scratch)
        found = perf_analyzer(folder)
        if isinstance(found, str):
            say(f"  perf_analyzer: not measured, {found}")
        for batch in BATCHES:
            for callers in CALLERS:
                bare = ask(
                    settings.triton_grpc, contract(MODEL), 1, clients=callers, batch=batch, seconds=WINDOW_MS / 1e3
                )
                name = f"batch {batch}, {callers} callers"
                details[f"{name}: bare client"] = bare
                figures.tell(
                    f"{name}: bare Python client, p50", bare.p50_ms, "ms", beside=f"{bare.rows_per_s:,.0f} rows/s"
                )
                if not isinstance(found, str):
                    theirs = analyse(*found, settings, batch, callers, folder)
                    details[f"{name}: perf_analyzer"] = theirs
                    figures.tell(
                        f"{name}: perf_analyzer, p50",
                        theirs["p50_ms"],
                        "ms",
                        beside=f"{theirs['rows_per_s']:,.0f} rows/s",
                    )
                    figures.tell(f"{name}: bare Python client over perf_analyzer, rows a second",
                                 bare.rows_per_s / theirs["rows_per_s"], "times")  # fmt: skip
        opened = drive_model(ModelLoad(settings.triton_grpc, MODEL, speed=f"poisson:{RATE}/s", batch=1))
        with running_gateway(settings, model_name=MODEL):
            drive(settings.kafka_bootstrap, MARKET, f"{RATE}/s", RATE * 20)
            through = drive(settings.kafka_bootstrap, MARKET, f"poisson:{RATE}/s", RATE * 20)
        figures.tell(f"open model, {RATE}/s of one row: Triton alone, p50", opened.latency.p50, "ms")
        figures.tell(f"open model, {RATE}/s of one row: Triton alone, p99", opened.latency.p99, "ms")
        figures.tell(
            f"open model, {RATE} ticks/s: tick to decision through Kafka twice, p50", through.latency.p50, "ms"
        )
        figures.tell(
            f"open model, {RATE} ticks/s: tick to decision through Kafka twice, p99",
            through.latency.p99,
            "ms",
            at_most=50.0,
        )
        ratio = through.latency.p50 / opened.latency.p50
        figures.tell("a decision over a bare call of the model, p50", ratio, "times")
    figures.save(details)


if __name__ == "__main__":
    main()
