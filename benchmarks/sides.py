"""`make bench`, one against the other: configurations of the gateway in turns, with intervals of confidence."""

from __future__ import annotations

import os

from benchmarks.figures import Figures, say
from loadtest.compare import compare
from loadtest.driver.drive import Load
from loadtest.gates import judge
from loadtest.targets import pick
from stack.loadtest.sides import Side, in_turns

TURNS = int(os.environ.get("BENCH_TURNS", "3"))
LOAD = Load("", "simulate:regimes?ticks=100000&symbols=16", "500/s", duration_s=17.0, warm_up_s=5.0)
PAIRS = (
    ("fused over ensemble", "model=trading_decision", "model=trading_decision_fused"),
    ("at least once over exactly once", "delivery=exactly-once", "delivery=at-least-once"),
    ("three brokers over one", "brokers=1", "brokers=3"),
)


def main() -> None:
    figures = Figures("sides", f"one against the other: {TURNS} runs of each, in turns, at {LOAD.speed}")
    details = {}
    for name, a, b in PAIRS:
        runs = in_turns((Side.parse(a), Side.parse(b)), LOAD, TURNS, lambda text: say(f"    {text}"))
        for side, of_side in zip("AB", runs, strict=True):
            bad = [judge(run, pick("decision")).verdict for run in of_side].count("invalid")
            share = sum(run.error_ratio for run in of_side) / len(of_side)
            say(f"    {side}: {bad} of {len(of_side)} runs invalid, {share:.2%} missing, repeated or undecided")
            if bad:
                raise SystemExit(f"{name}: the generator fell behind, no figure counts")
        ratios = compare(*runs)
        details[name] = ratios
        for r in ratios:
            unit = "" if r.figure.startswith("answers") else " ms"
            figures.tell(
                f"{name}: {r.figure.removesuffix(', ms')}", r.ratio, "times",
                beside=f"95 % {r.low:.3f} to {r.high:.3f}, {r.verdict}; {r.a:.4g}{unit} to {r.b:.4g}{unit}",
            )  # fmt: skip
    figures.save(details)


if __name__ == "__main__":
    main()
