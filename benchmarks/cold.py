"""`make bench`: a desk's first seconds beside its later ones, with a rehearsal and without.

In turns: all servers are stopped and started, a gateway is started, and ticks come once it owns its partitions.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from benchmarks.figures import BenchmarkFigures, say
from benchmarks.load import drive
from gateway.settings import GatewaySettings
from loadtest.measuring.latencies import LatencySeries, quantile_ms
from stack.processes.gateway import running_gateway
from stack.servers.settings import StackSettings
from stack.supervision.lifecycle import down, up
from stack.workflows.sandbox import MODELS, sandbox

RATE = 2_000
#: Seconds: the first, and a minute after the desk has become steady.
FIRST, STEADY = (0, 10), (15, 75)
TURNS = 2
#: As a desk has it, and without a rehearsal.
LONGEST_S = (float(GatewaySettings.model_fields["longest_rehearsal_s"].default), 0.0)
SOURCE = f"simulate:regimes?ticks={RATE * STEADY[1]}&symbols=16"


def p99_ms(series: LatencySeries, span: Sequence[int]) -> float:
    """Of what was meant for these seconds of a run without a warm-up."""
    if series.cell_s != 1.0:
        raise AssertionError(f"a cell is {series.cell_s:g} s long: the run was longer than its seconds can be told")
    return quantile_ms(series.matrix()[span[0] : span[1]].sum(axis=0), 0.99).item()


def one(settings: StackSettings, longest_s: float) -> tuple[float, float, float]:
    """p99 of the first seconds and of the steady ones, and the share of all ticks that were late."""
    down(settings.absolute_home)
    up(settings, lambda _: None)
    with running_gateway(settings, model_name=MODELS[1], longest_rehearsal_s=longest_s):
        run = drive(settings.kafka_bootstrap, SOURCE, f"{RATE}/s", RATE * STEADY[1], warm_up_s=0.0)
    if run.missing or run.repeated:
        raise SystemExit(f"{run.missing} decisions are missing and {run.repeated} are repeated: no figure counts")
    late = sum(run.undecided.values()) / run.planned
    return p99_ms(run.series, FIRST), p99_ms(run.series, STEADY), late


def main() -> None:
    """Both in turns."""
    figures = BenchmarkFigures("cold", f"cold: the first {FIRST[1]} s after a start, {RATE:,} ticks/s")
    found: dict[float, list[tuple[float, float, float]]] = {longest: [] for longest in LONGEST_S}
    with tempfile.TemporaryDirectory(prefix="ultrathink-bench-") as folder, sandbox(Path(folder)) as settings:
        for turn in range(TURNS):
            for longest_s in LONGEST_S:
                found[longest_s].append(one(settings, longest_s))
                first, steady, late = found[longest_s][-1]
                say(f"  {turn + 1}, up to {longest_s:g} s: first {first:.1f}, steady {steady:.1f} ms, {late:.2%}")
    for longest_s, turns in found.items():
        name = "with a rehearsal" if longest_s else "without one"
        worst = max(first / steady for first, steady, _ in turns)
        figures.tell(f"p99 of the first {FIRST[1]} s, {name}", median(first for first, _, _ in turns), "ms")
        figures.tell(f"p99 of a steady minute, {name}", median(steady for _, steady, _ in turns), "ms")
        figures.tell(
            f"first over steady, worst of {TURNS}, {name}", worst, "times", at_most=2.0 if longest_s else None
        )
        figures.tell(f"late or superseded, all of it, {name}", median(late for _, _, late in turns), "")
    figures.save({f"{longest_s:g}": turns for longest_s, turns in found.items()})


if __name__ == "__main__":
    main()
