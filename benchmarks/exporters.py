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

from benchmarks.figures import Figures
from exporters.export import export_model, export_pipeline
from exporters.options import Options
from exporters.parity.verify import verify
from exporters.release.releases import Releases
from exporters.release.triton_client import TritonServer
from exporters.repository.repository import ModelRepository
from exporters.target.latency import compare
from exporters.target.profiles import find, find_gpu
from stack.servers.lifecycle import down, up
from stack.servers.settings import Ports, StackSettings
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


def measure(settings: StackSettings, figures: Figures) -> dict[str, object]:
    """Export, verify, release, compare and flip on a desk that is up; what the figures were taken from."""
    repository, triton = ModelRepository(settings.model_repository), TritonServer(settings.triton_grpc)
    gpu = find_gpu("rtx5070")
    options = Options(settings.mlflow_uri, find("25.03-py3"), gpu, alias="challenger")
    releases = Releases(repository, triton, gpu, quiet)
    results: dict[str, object] = {}

    one = []
    for version in (1, 2, 3):
        exported = timed(lambda: export_model("regime_detection", options, repository, quiet))
        released = timed(lambda v=version: releases.release("regime_detection", v))  # type: ignore[misc]
        verified = timed(
            lambda v=version: verify("regime_detection", v, repository, triton, settings.mlflow_uri, quiet)  # type: ignore[misc]
        )
        one.append({"export_s": exported, "verify_s": verified, "load_probe_flip_s": released})
    best = min(one, key=lambda row: sum(row.values()))
    best["all_s"] = sum(best.values())
    results["one_model"] = best
    figures.tell("export, load, probe, flip and verify one model, best of three", best["all_s"], "s", at_most=5.0,
                 beside=show(best))  # fmt: skip

    report = verify("regime_detection", None, repository, triton, settings.mlflow_uri, quiet)
    asked = report.source_seconds + report.file_seconds + report.served_seconds
    results["verify"] = {"rows": report.rows, "asking_s": asked, "whole_s": best["verify_s"]}
    figures.tell(f"verify {report.rows:,} rows", best["verify_s"], "s", beside=f"{asked:.2f} s of it asking")

    export_pipeline("trading_decision", options, repository, quiet, fuse=True)
    for name in ("trading_decision", "trading_decision_fused"):
        releases.release(name, 1)
    rows = []
    for batch in BATCHES:
        for clients in (1, 2):
            found = compare(
                settings.triton_grpc,
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
    results["ensemble_against_fused"] = rows

    flips, wholes = [], []
    newest = repository.versions("trading_decision_fused")[-1]
    export_pipeline("trading_decision", options, repository, quiet, fuse=True)
    for k in range(FLIPS):
        done = (
            releases.release("trading_decision_fused", newest + 1)
            if k % 2 == 0
            else releases.rollback("trading_decision_fused")
        )
        flips.append(done.flip_seconds)
        wholes.append(done.seconds)
    results["flip"] = {
        "p50_s": statistics.median(flips),
        "max_s": max(flips),
        "whole_p50_s": statistics.median(wholes),
        "whole_max_s": max(wholes),
    }
    figures.tell(f"flip of {FLIPS} releases and rollbacks, longest", max(flips), "s", at_most=1.0,
                 beside=show(results["flip"]))  # type: ignore[arg-type]  # fmt: skip
    triton.close()
    return results


def show(row: dict[str, float]) -> str:
    return ", ".join(f"{k} {v:.2f}" for k, v in row.items())


def main() -> None:
    """A desk of its own, measured and taken down."""
    figures = Figures("exporters", "exporters: from MLflow to served, on this machine's Triton")
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        settings = StackSettings(home=home, ports=Ports.automatic(), model_repository=home / "models")
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
