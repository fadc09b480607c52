"""`make bench`: the kernel's rate, the gateway at the Binance feed's real gaps, and what it sustains.

Needs nothing running: it brings up a stack of its own, trains briefly, and takes it down again.
The recorded feed is looked for in $ULTRATHINK_DATA or ../shared/data; without it the simulator is
used, and the output says so.
"""

from __future__ import annotations

import json
import os
import platform
import tempfile
import time
from pathlib import Path

import numpy as np

from gateway.domain.features import FeatureEngine
from gateway.domain.schemas import TickBatch
from gateway.history import open_source
from stack.demo import publish_and_watch, running_gateway
from stack.jobs import export, train
from stack.lifecycle import down, up
from stack.settings import Ports, StackSettings

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("ULTRATHINK_DATA", ROOT.parent / "shared" / "data"))
FEED = DATA / "binance_usdm_btcusdt_20240808.gz"
REAL_GAP_TICKS = int(os.environ.get("BENCH_TICKS", "25000"))
WARM_UP_TICKS = 30_000
#: Offered rates, until one is not kept up with.
RATES = (1000, 2500, 5000, 7500, 10000, 15000)


def kernel_rate() -> dict[str, float]:
    """Ticks a second on one core: in large batches, and one at a time."""
    ticks = [r.tick for r in open_source("simulate:regimes?ticks=200000&symbols=20").records()]
    batch = TickBatch.from_ticks(ticks)
    FeatureEngine().update(TickBatch.from_ticks(ticks[:10]))
    best = 0.0
    for _ in range(5):
        engine, start = FeatureEngine(), time.perf_counter()
        engine.update(batch)
        best = max(best, len(batch) / (time.perf_counter() - start))
    engine, singles = FeatureEngine(), [TickBatch.from_ticks([t]) for t in ticks[:20000]]
    start = time.perf_counter()
    for one in singles:
        engine.update(one)
    return {"batches_per_s": best, "singles_per_s": len(singles) / (time.perf_counter() - start)}


def measure(settings: StackSettings, spec: str, speed: str, limit: int) -> dict[str, float | str]:
    """One run through a gateway; latency is from intended send to visible."""
    with running_gateway(settings):
        run = publish_and_watch(settings, open_source(spec), speed, limit, lambda *_: None)
    inside = np.array([s.features_us + s.inference_us for s in (d.stages for d in run.decisions)]) / 1e3
    late = sum(d.reason.value == "deadline_exceeded" for d in run.decisions)
    return {
        "source": spec.rpartition("/")[2],
        "speed": speed,
        "ticks": run.counts.ticks,
        "missing": run.counts.missing,
        "repeated": run.counts.repeated,
        "achieved_per_s": run.published.sent / run.published.seconds,
        "p50_ms": run.latency.p50,
        "p99_ms": run.latency.p99,
        "p99_9_ms": run.latency.p99_9,
        "received_to_answered_p50_ms": float(np.percentile(inside, 50)),
        "received_to_answered_p99_ms": float(np.percentile(inside, 99)),
        "late_share": late / max(1, len(run.decisions)),
        "sender_lag_ms": run.published.worst_lag_s * 1e3,
    }


def show(row: dict[str, float | str]) -> None:
    print(
        "  " + ", ".join(f"{k} {v:,.2f}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()),
        flush=True,
    )


def main() -> None:
    results: dict[str, object] = {
        "machine": {"cpus": os.cpu_count(), "processor": platform.processor() or platform.machine()},
        "kernel": kernel_rate(),
    }
    print("feature kernel, one core:")
    show(results["kernel"])  # type: ignore[arg-type]
    feed = f"binance:{FEED}" if FEED.is_file() else f"simulate:regimes?ticks={REAL_GAP_TICKS}"
    if not FEED.is_file():
        print(f"{FEED} is not here: the simulator stands in, and the figures are not those of a real feed")
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        settings = StackSettings(home=home, ports=Ports.automatic(), model_repository=home / "models")
        os.environ["ULTRATHINK_HOME"] = str(home)
        up(settings, lambda _: None)
        try:
            train("simulate:regimes?ticks=20000&symbols=4", 10, None, None, lambda _: None)
            export(lambda _: None)
            # Left out of the figures: a broker that has just started still compiles itself.
            measure(settings, f"simulate:regimes?ticks={WARM_UP_TICKS}&symbols=16", "1000/s", WARM_UP_TICKS)
            print("the feed at its real gaps, exactly as recorded:")
            real = measure(settings, feed, "real", REAL_GAP_TICKS)
            show(real)
            results["real_gaps"] = real
            print("sustained (a rate holds when the sender kept it, all came back, and p99 is below 50 ms):")
            results["sustained"] = sustained(settings)
        finally:
            down(home)
    target = ROOT / "benchmarks" / "results" / "latest.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(results, indent=2))
    print(f"written: {target}")


def sustained(settings: StackSettings) -> list[dict[str, float | str]]:
    """Rising rates, stopped at the first that does not hold."""
    rows = []
    for rate in RATES:
        row = measure(settings, f"simulate:regimes?ticks={rate * 10}&symbols=16", f"{rate}/s", rate * 10)
        row["holds"] = str(
            row["missing"] == 0 and float(row["achieved_per_s"]) > 0.99 * rate and float(row["p99_ms"]) < 50
        )
        show(row)
        rows.append(row)
        if row["holds"] != "True":
            break
    return rows


if __name__ == "__main__":
    main()
