"""`make bench`, the highest rate that keeps every gate of loadtest/judging/targets.yaml, searched and confirmed."""

from __future__ import annotations

from benchmarks.figures import BenchmarkFigures, say
from loadtest.judging.capacity import Trial, search
from loadtest.judging.gates import judge
from loadtest.judging.targets import pick
from loadtest.measuring.result import RunResult
from loadtest.open_loop.drive import Load, drive
from loadtest.report.texts import number
from stack.workflows.loadtest.load_target import embedded
from stack.workflows.sandbox import MODELS

MARKET = "simulate:regimes?ticks=100000&symbols={}"
LOW, HIGH, PRECISION = 500.0, 50_000.0, 0.15
#: Few symbols, and as many as an equity desk follows.
SYMBOLS = (16, 500)
#: Ticks a second.
GOALS = {16: 10_000.0}


def main() -> None:
    """A desk for each number of symbols, searched."""
    figures, details = BenchmarkFigures("limits", "limits: the highest rate that keeps every target"), {}
    for symbols in SYMBOLS:
        with embedded(lambda _: None, gateway_settings={"model_name": MODELS[1]}) as place:

            def run(rate: float, symbols: int = symbols, bootstrap: str = place.bootstrap) -> RunResult:
                load = Load(bootstrap, MARKET.format(symbols), f"{rate:.1f}/s", duration_s=15.0, warm_up_s=5.0)
                return judge(drive(load), pick("decision"))

            def show(trial: Trial) -> None:
                say(f"    {trial.rate:,.0f}/s: p99 {number(trial.p99_ms, 'ms')}, {trial.verdict} {trial.broken}")

            run(LOW), run(4 * LOW)  # a broker that has just started still compiles itself
            found = search(run, low=LOW, high=HIGH, precision=PRECISION, confirmations=1, show=show)
        details[str(symbols)] = found
        held = [t for t in found.trials if t.rate == found.limit and t.verdict == "held"]
        beside = f"bound by {found.bound}; p99 there {number(held[-1].p99_ms, 'ms')}" if held else "none held"
        name = f"{symbols} symbols, fused, exactly once: limit"
        figures.tell(name, found.limit, "ticks/s", at_least=GOALS.get(symbols), beside=beside)
        if found.knee is not None:
            figures.tell(f"{symbols} symbols: knee of p99", found.knee, "ticks/s")
    figures.save(details)


if __name__ == "__main__":
    main()
