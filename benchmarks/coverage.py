"""`python -m benchmarks.coverage`: how often an experiment's statistics mislead, and how soon they find.

Thousands of experiments on simulated outcomes whose truth is known: independent ones, and such as markets make. The
figures go to benchmarks/results/coverage.json, and the plot to docs/experiments/coverage.png.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import msgspec
import numpy as np
from msgspec import Struct
from rich.progress import track
from scipy.signal import lfilter
from scipy.stats import norm

from benchmarks.figures import BenchmarkFigures, console
from services.experiments.statistics.sample_ratio import SampleRatio
from services.experiments.statistics.sequence import ConfidenceSequence, Interval
from trading.arrays import FloatArray

ALPHA, EVERY = 0.05, 100
EXPERIMENTS, BLOCKS = 1_000, 2_000
#: An A/A experiment is wanted to be decided here.
PLANNED = 1_000
#: Blocks after which one look finds a difference with `POWER`, if that look is the only one.
FIXED, POWER = 800, 0.8
AUTOCORRELATION = 0.5
RARE = 0.01
SHARE, PROMISED, UNITS = 0.48, 0.5, 20_000
PLOT = Path(__file__).resolve().parents[1] / "docs" / "experiments" / "coverage.png"

Series = Callable[[np.random.Generator, int], FloatArray]


def independent(chance: np.random.Generator, n: int) -> FloatArray:
    """Normal, and each for itself."""
    return chance.standard_normal(n)


def persistent(chance: np.random.Generator, n: int) -> FloatArray:
    """AR(1): of what one block brings, the next brings half again."""
    found: FloatArray = lfilter([1.0], [1.0, -AUTOCORRELATION], chance.standard_normal(n + 100))[100:]
    return found


def heavy_tailed(chance: np.random.Generator, n: int) -> FloatArray:
    """Student's t with three degrees of freedom: its fourth moment is infinite."""
    return chance.standard_t(3, n)


def wildness(chance: np.random.Generator, n: int) -> FloatArray:
    """1 in calm blocks and 3 in wild ones; some 200 of each behind another."""
    changes = chance.random(n) < 1 / 200
    wild = (np.cumsum(changes) + chance.integers(2)) % 2
    return np.where(wild == 1, 3.0, 1.0)


def regimes(chance: np.random.Generator, n: int) -> FloatArray:
    """Calm and wild blocks; wild ones are three times as wide."""
    return chance.standard_normal(n) * wildness(chance, n)


def all_at_once(chance: np.random.Generator, n: int) -> FloatArray:
    """Persistent, heavy-tailed, and of two regimes."""
    shocks = chance.standard_t(4, n + 100) * wildness(chance, n + 100)
    found: FloatArray = lfilter([1.0], [1.0, -AUTOCORRELATION], shocks)[100:]
    return found


SERIES: dict[str, Series] = {
    one.__name__: one for one in (independent, persistent, heavy_tailed, regimes, all_at_once)
}


def rare_losses(chance: np.random.Generator, n: int) -> FloatArray:
    """A little won in 99 blocks of a hundred, and all of it lost in the other: what no promise holds for."""
    return np.where(chance.random(n) < RARE, -100.0, 100.0 * RARE / (1.0 - RARE)) + 0.1 * chance.standard_normal(n)


#: A block's share of the variance of each one's sum, by its definition.
LONG_RUN_VARIANCE = {
    "independent": 1.0,
    "persistent": 1.0 / (1.0 - AUTOCORRELATION) ** 2,
    "heavy_tailed": 3.0,
    "regimes": 5.0,
    "all_at_once": 2.0 * 5.0 / (1.0 - AUTOCORRELATION) ** 2,
}


class Looked(Struct, frozen=True):
    """What looking at one experiment's blocks every 100 of them showed.

    Attributes:
        alarm: the first number of blocks at which the interval left out the truth; 0 where none did.
        naive: the same of an interval that is made for one look at independent outcomes.
        found: the first at which it left out 0, of an experiment with a difference; 0 where none did.
    """

    alarm: int
    naive: int
    found: int


def looks(sequence: ConfidenceSequence, outcomes: FloatArray) -> Iterator[Interval]:
    """The intervals of somebody who looks every 100 blocks."""
    for blocks in range(EVERY, len(outcomes) + 1, EVERY):
        yield sequence.look(outcomes[:blocks])


def first_outside(intervals: Iterator[Interval], truth: float) -> int:
    """Blocks of the first interval that leaves the truth out; 0 where none does."""
    return next((one.blocks for one in intervals if not one.lower <= truth <= one.upper), 0)


def naive_alarm(outcomes: FloatArray) -> int:
    """Blocks at which mean and plain standard error first say that the mean is not 0; 0 where they never do."""
    bound = float(norm.isf(ALPHA / 2))
    for blocks in range(EVERY, len(outcomes) + 1, EVERY):
        seen = outcomes[:blocks]
        if abs(seen.mean()) > bound * seen.std(ddof=1) / blocks**0.5:
            return blocks
    return 0


def planted(name: str) -> float:
    """The mean that one look after `FIXED` blocks finds with `POWER`."""
    return float((norm.isf(ALPHA / 2) + norm.ppf(POWER)) * (LONG_RUN_VARIANCE[name] / FIXED) ** 0.5)


def experiment(name: str, seed: int, blocks: int = BLOCKS) -> Looked:
    """One experiment without a difference and one with, of a series."""
    chance = np.random.default_rng([seed, list(SERIES).index(name)])
    nothing, something = SERIES[name](chance, blocks), SERIES[name](chance, 2 * FIXED) + planted(name)
    finding = ConfidenceSequence(round(1.5 * FIXED), ALPHA)
    return Looked(
        first_outside(looks(ConfidenceSequence(PLANNED, ALPHA), nothing), 0.0),
        naive_alarm(nothing),
        next((one.blocks for one in looks(finding, something) if one.lower > 0.0), 0),
    )


def called_better(seed: int) -> bool:
    """Whether an experiment of rare losses is ever called better, though it is not."""
    outcomes = rare_losses(np.random.default_rng([seed, 98]), BLOCKS)
    return any(one.lower > 0.0 for one in looks(ConfidenceSequence(PLANNED, ALPHA), outcomes))


def ratio_found(seed: int, share: float) -> int:
    """Units, in hundreds, after which a split that is not as promised is told; 0 where it is not by `UNITS`."""
    chance, ratio = np.random.default_rng([seed, 99]), SampleRatio()
    for given in chance.binomial(EVERY, share, UNITS // EVERY).tolist():
        ratio.add(EVERY, given, PROMISED)
        if ratio.is_broken(ALPHA):
            return ratio.units
    return 0


def false_alarms_below(experiments: int) -> int:
    """What the count of false alarms stays below but for once in 160 times, where their chance is `ALPHA`."""
    return math.ceil(ALPHA * experiments + 2.5 * (experiments * ALPHA * (1.0 - ALPHA)) ** 0.5)


def simulate(names: Iterable[str], experiments: int) -> dict[str, list[Looked]]:
    """Experiments of each series, on all cores."""
    found = {}
    with ProcessPoolExecutor() as pool:
        for name in track(list(names), "experiments", console=console, transient=True):
            found[name] = list(pool.map(experiment, [name] * experiments, range(experiments), chunksize=20))
    return found


def split_found(share: float, experiments: int) -> list[int]:
    """Of so many experiments whose challenger is given this share, the units after which that is told."""
    with ProcessPoolExecutor() as pool:
        return list(pool.map(ratio_found, range(experiments), [share] * experiments, chunksize=20))


def main() -> None:
    """Simulate, tell, and draw."""
    kinds = f"experiments: {EXPERIMENTS:,} simulated ones of a kind, looked at every {EVERY} blocks"
    told = BenchmarkFigures("coverage", kinds)
    found, most = simulate(SERIES, EXPERIMENTS), false_alarms_below(EXPERIMENTS)
    for name, mine in found.items():
        of = name.replace("_", " ")
        told.tell(f"{of}: false alarms in {BLOCKS:,} blocks", sum(one.alarm > 0 for one in mine), "", at_most=most,
                  beside=f"intervals for one look: {sum(one.naive > 0 for one in mine)}")  # fmt: skip
        first = [one.found for one in mine]
        told.tell(f"{of}: found within {2 * FIXED:,} blocks", percent(first), "%", at_least=100.0 * POWER,
                  beside=f"one look at {FIXED} finds {POWER:.0%}; half by {half_by(first)}")  # fmt: skip
    rare = sum(called_better(seed) for seed in range(EXPERIMENTS))
    kind = f"a loss of 100 once in {1 / RARE:.0f} blocks, mean 0: called better"
    told.tell(kind, 100.0 * rare / EXPERIMENTS, "%",
              beside="what has not happened yet is in no interval")  # fmt: skip
    unfair, fair = split_found(SHARE, EXPERIMENTS), split_found(PROMISED, EXPERIMENTS)
    told.tell(f"{SHARE:.0%} where {PROMISED:.0%} were promised: found by {UNITS:,} units",
              percent(unfair), "%", at_least=99.0, beside=f"half by {half_by(unfair)}")  # fmt: skip
    told.tell("as promised: false alarms", sum(one > 0 for one in fair), "", at_most=most)
    draw(found, PLOT)
    told.save({name: msgspec.to_builtins(mine) for name, mine in found.items()})


def percent(first: list[int]) -> float:
    """How many of them found it."""
    return 100.0 * float(np.mean([one > 0 for one in first]))


def half_by(first: list[int]) -> str:
    """When half of them had found it."""
    middle = float(np.median([one or np.inf for one in first]))
    return f"{middle:,.0f}" if np.isfinite(middle) else "never"


def draw(found: Mapping[str, list[Looked]], path: Path) -> None:
    """Of how many experiments every look so far held the truth, by blocks; beside intervals for one look."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.subplots()
    blocks = np.arange(EVERY, BLOCKS + 1, EVERY)

    def held(alarms: list[int]) -> FloatArray:
        first = np.array([one or np.inf for one in alarms])
        return np.array([100.0 * np.mean(first > n) for n in blocks])

    for k, (name, mine) in enumerate(found.items()):
        axes.plot(blocks, held([one.alarm for one in mine]), color=f"C{k}", label=name.replace("_", " "))
        axes.plot(blocks, held([one.naive for one in mine]), color=f"C{k}", linestyle=":")
    axes.axhline(100.0 * (1.0 - ALPHA), color="black", linewidth=0.8, linestyle="--")
    axes.annotate("promised", (BLOCKS, 100.0 * (1.0 - ALPHA)), ha="right", va="top")
    axes.set(
        xlabel="blocks",
        ylabel="experiments in which every look so far held the truth, %",
        xlim=(0, BLOCKS),
        ylim=(0, 101),
    )
    axes.set_title("confidence sequences (lines) and intervals for one look (dots), looked at every 100 blocks")
    axes.legend(loc="lower left")
    axes.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
