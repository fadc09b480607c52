"""`make bench`, the exporters' part: export, verify, release, and the ensemble against the fused graph.

Needs nothing running: it brings up a stack of its own and takes it down again. Ratios are of runs that
take turns on the same server, so that a noisy machine disturbs both alike.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from benchmarks.figures import BenchmarkFigures
from exporters.export import export_model, export_pipeline
from exporters.options import Options
from exporters.performance.latency import compare
from exporters.profiles import find, find_gpu
from exporters.release.releases import Releases
from exporters.release.triton_client import TritonServer
from exporters.repository.repository import ModelRepository
from exporters.verify import ParityReport, verify
from stack.servers.settings import ServerPorts, StackSettings
from stack.supervision.lifecycle import down, up
from stack.workflows.training.settings import TrainRequest
from stack.workflows.training.train import train
from trading.models.signature import contract

BATCHES = (1, 64, 1024)
FLIPS = 20


def quiet(_: str) -> None:
    """No progress."""


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(settings: StackSettings, figures: BenchmarkFigures) -> dict[str, object]:
    """Export, verify, release, compare and flip on a stack that is up; what the figures were taken from."""
    exporting = Exporting(settings)
    try:
        best = one_model(exporting, figures)
        return {
            "one_model": best,
            "verify": verification(exporting, best["verify_s"], figures),
            "ensemble_against_fused": against_fused(exporting, figures),
            "flip": flips(exporting, figures),
        }
    finally:
        exporting.triton.close()


class Exporting:
    """What all parts export to."""

    def __init__(self, settings: StackSettings) -> None:
        gpu = find_gpu("rtx5070")
        self.settings = settings
        self.repository, self.triton = (
            ModelRepository(settings.model_repository),
            TritonServer(settings.triton_grpc),
        )
        self.options = Options(settings.mlflow_uri, find("25.03-py3"), gpu, alias="challenger")
        self.releases = Releases(self.repository, self.triton, gpu, quiet)

    def verify(self, version: int | None) -> ParityReport:
        return verify("regime_detection", version, self.repository, self.triton, self.settings.mlflow_uri, quiet)


def one_model(exporting: Exporting, figures: BenchmarkFigures) -> dict[str, float]:
    """One model from MLflow to served and verified, the best of three times."""
    one = []
    for version in (1, 2, 3):
        exported = timed(lambda: export_model("regime_detection", exporting.options, exporting.repository, quiet))
        released = timed(lambda v=version: exporting.releases.release("regime_detection", v))  # type: ignore[misc]
        verified = timed(lambda v=version: exporting.verify(v))  # type: ignore[misc]
        one.append({"export_s": exported, "verify_s": verified, "load_probe_flip_s": released})
    best = min(one, key=lambda row: sum(row.values()))
    best["all_s"] = sum(best.values())
    figures.tell("export, load, probe, flip and verify one model, best of three", best["all_s"], "s", at_most=5.0,
                 beside=show(best))  # fmt: skip
    return best


def verification(exporting: Exporting, seconds: float, figures: BenchmarkFigures) -> dict[str, float]:
    """How much of a verification is asking."""
    report = exporting.verify(None)
    asked = report.source_seconds + report.file_seconds + report.served_seconds
    figures.tell(f"verify {report.rows:,} rows", seconds, "s", beside=f"{asked:.2f} s of it asking")
    return {"rows": report.rows, "asking_s": asked, "whole_s": seconds}


def against_fused(exporting: Exporting, figures: BenchmarkFigures) -> list[dict[str, object]]:
    """The ensemble against the same as one graph."""
    export_pipeline("trading_decision", exporting.options, exporting.repository, quiet, fuse=True)
    for name in ("trading_decision", "trading_decision_fused"):
        exporting.releases.release(name, 1)
    rows: list[dict[str, object]] = []
    for batch in BATCHES:
        for clients in (1, 2):
            found = compare(
                exporting.settings.triton_grpc,
                (contract("trading_decision"), 1),
                (contract("trading_decision_fused"), 1),
                batch=batch,
                seconds=6.0,
                clients=clients,
            )
            rows.append({"ensemble": msgspec.to_builtins(found.a), "fused": msgspec.to_builtins(found.b)})
            told = [f"p50 {m.p50_ms:.2f} ms, {m.rows_per_s:,.0f} rows/s" for m in (found.a, found.b)]
            name = f"ensemble over fused, p50, batch {batch}, {clients} callers"
            figures.tell(name, found.ratio_p50, "times", beside=f"ensemble {told[0]}; fused {told[1]}")
    return rows


def flips(exporting: Exporting, figures: BenchmarkFigures) -> dict[str, float]:
    """Releases and rollbacks in turns."""
    seconds, wholes = [], []
    newest = exporting.repository.versions("trading_decision_fused")[-1]
    export_pipeline("trading_decision", exporting.options, exporting.repository, quiet, fuse=True)
    for k in range(FLIPS):
        done = (
            exporting.releases.release("trading_decision_fused", newest + 1)
            if k % 2 == 0
            else exporting.releases.rollback("trading_decision_fused")
        )
        seconds.append(done.flip_seconds)
        wholes.append(done.seconds)
    found = {
        "p50_s": statistics.median(seconds),
        "max_s": max(seconds),
        "whole_p50_s": statistics.median(wholes),
        "whole_max_s": max(wholes),
    }
    figures.tell(f"flip of {FLIPS} releases and rollbacks, longest", max(seconds), "s", at_most=1.0,
                 beside=show(found))  # fmt: skip
    return found


def show(row: dict[str, float]) -> str:
    return ", ".join(f"{k} {v:.2f}" for k, v in row.items())


def main() -> None:
    """A desk of its own, measured and taken down."""
    figures = BenchmarkFigures("exporters", "exporters: from MLflow to served, on this machine's Triton")
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        settings = StackSettings(
            profile="servers", home=home, ports=ServerPorts.automatic(), model_repository=home / "models"
        )
        os.environ["ULTRATHINK_HOME"] = str(home)
        up(settings, lambda _: None)
        try:
            train(TrainRequest(("simulate:regimes?ticks=9000&symbols=3",)), lambda *_: None)
            results = measure(settings, figures)
        finally:
            down(home)
    figures.save(results)


if __name__ == "__main__":
    main()
