"""`make bench`, one against the other: configurations of the gateway in turns, with intervals of confidence."""

from __future__ import annotations

import math
import os

from msgspec import structs

from benchmarks.figures import BenchmarkFigures, say
from loadtest.judging.compare import compare
from loadtest.judging.gates import judge
from loadtest.judging.targets import Target
from loadtest.open_loop.drive import Load
from stack.workflows.loadtest.configuration import Configuration, in_turns

#: Only what makes a run invalid; how fast either side is, is the question.
TARGET = Target(max_lag_ms=5.0, min_samples=500)
TURNS = int(os.environ.get("BENCH_TURNS", "3"))
LOAD = Load("", "simulate:regimes?ticks=100000&symbols=16", duration_s=17.0, warm_up_s=5.0)
#: What, A, B, and how fast: four brokers on few cores leave the generator little.
PAIRS = (
    ("fused over ensemble", "model=trading_decision", "model=trading_decision_fused", "500/s"),
    ("at least once over exactly once", "delivery=exactly-once", "delivery=at-least-once", "500/s"),
    ("three brokers over one", "brokers=1", "brokers=3", "100/s"),
)


def main() -> None:
    """Each pair in turns; one whose generator fell behind has no figure."""
    figures = BenchmarkFigures("sides", f"one against the other: {TURNS} runs of each, in turns")
    details = {}
    for name, a, b, speed in PAIRS:
        load = structs.replace(LOAD, speed=speed)
        runs = in_turns(
            (Configuration.parse(a), Configuration.parse(b)), load, TURNS, lambda text: say(f"    {text}")
        )
        told = []
        for side, of_side in zip("AB", runs, strict=True):
            bad = [judge(run, TARGET).verdict for run in of_side].count("invalid")
            share = sum(run.error_ratio for run in of_side) / len(of_side)
            told.append(
                f"{side} {share:.2%} undecided" + (f", {bad} of {len(of_side)} runs invalid" if bad else "")
            )
        say(f"    {'; '.join(told)}")
        if "invalid" in " ".join(told):
            figures.tell(f"{name}: p50", math.nan, "times", beside=f"the generator fell behind: {'; '.join(told)}")
            continue
        details[name] = compare(*runs)
        for r in details[name]:
            unit = "" if r.figure.startswith("answers") else " ms"
            figures.tell(
                f"{name}, {speed}: {r.figure.removesuffix(', ms')}", r.ratio, "times",
                beside=f"95 % {r.low:.3f} to {r.high:.3f}, {r.verdict}; {r.a:.4g}{unit} to {r.b:.4g}{unit}",
            )  # fmt: skip
    figures.save(details)


if __name__ == "__main__":
    main()
