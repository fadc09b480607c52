"""One system against another: ratios of percentiles with confidence intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from msgspec import Struct
from scipy.stats import t as student

from loadtest.errors import InvalidRun
from loadtest.measuring.latencies import BUCKETS, Counts, Values, quantile_ms
from loadtest.measuring.result import RunResult

QUANTILES = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("p99.9", 0.999))
RESAMPLES = 2000
#: Resamples that are drawn at once.
AT_ONCE = 250
CONFIDENCE = 0.95
#: Fewer cells say nothing about how runs vary.
LEAST_CELLS = 8
#: Standard deviation of the logarithm of a turn's ratio where both sides are the same, as `make bench` finds it of
#: its own noise on a quiet machine of two cores; on a busy one it is several times that.
SPREADS = {"p50": 0.05, "p99": 0.10}


Drawn = npt.NDArray[np.int64]


class Ratio(Struct, frozen=True):
    """B over A of one figure, with its interval of confidence."""

    figure: str
    a: float
    b: float
    ratio: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """In words; an interval that holds 1 shows no difference."""
        if self.low <= 1.0 <= self.high:
            return "no difference shown"
        return "B is lower" if self.ratio < 1.0 else "B is higher"


def compare(
    a: Sequence[RunResult], b: Sequence[RunResult], *, resamples: int = RESAMPLES, seed: int = 0
) -> list[Ratio]:
    """Ratios of latency percentiles and of throughput.

    Two things make runs of one and the same system differ: seconds that resemble their neighbours, and runs
    that differ as wholes. So runs are drawn first, then blocks of neighbouring seconds within each drawn run (the
    circular block bootstrap of Politis and Romano, 1992); the interval is that of the drawn ratios' percentiles.
    With few runs that is too narrow: it is never narrower than Student's interval of the turns' own ratios.

    Args:
        a, b: the runs of each side, as many of each where they were taken in turns: the k-th of A is paired with
            the k-th of B. One run of each does not tell how runs differ: the interval then leaves that out.
        resamples: how many draws.
        seed: of the draws.

    Raises:
        InvalidRun: a side has too few cells, or no answers.
    """
    generator = np.random.default_rng(seed)
    wanted = [q for _, q in QUANTILES]
    counts = (cells_of(a, "A"), cells_of(b, "B"))
    rates = [[answered_of(run) for run in side] for side in (a, b)]
    turns = (turns_of(len(a), resamples, generator), turns_of(len(b), resamples, generator))
    if len(a) == len(b):
        # Taken in turns: what the machine did in a turn is in both sides.
        turns = (turns[0], turns[0])
    drawn = [resampled(counts[k], turns[k], wanted, generator) for k in (0, 1)]
    whole = [quantile_ms(np.sum([c.sum(axis=0) for c in side], axis=0), wanted) for side in counts]
    each = [np.stack([quantile_ms(c.sum(axis=0), wanted) for c in side]) for side in counts]
    found = []
    for k, (name, _) in enumerate(QUANTILES):
        own = each[1][:, k] / each[0][:, k] if len(a) == len(b) else np.zeros(0)
        found.append(_ratio(f"{name}, ms", whole[0][k], whole[1][k], drawn[1][:, k] / drawn[0][:, k], own))
    means = [np.array([rate.mean() for rate in side]) for side in rates]
    own = means[1] / means[0] if len(a) == len(b) else np.zeros(0)
    spread = [_means(rates[k], turns[k], generator) for k in (0, 1)]
    found.append(_ratio("answers a second", means[0].mean(), means[1].mean(), spread[1] / spread[0], own))
    return found


def cells_of(runs: Sequence[RunResult], side: str) -> list[Counts]:
    """Of each run int64 [cells, BUCKETS]."""
    counts = [run.series.matrix() for run in runs]
    cells = sum(len(c) for c in counts)
    if cells < LEAST_CELLS:
        raise InvalidRun(f"{side} has {cells} seconds of measurement, too few to see how they vary ({LEAST_CELLS})")
    if not all(c.sum() for c in counts):
        raise InvalidRun(f"{side} has a run without any answer: there is nothing to compare")
    return counts


def answered_of(run: RunResult) -> Values:
    """Answers a second in each cell; the last may be cut short, and is left out."""
    return np.array(run.series.answered[:-1] or run.series.answered, np.float64) / run.series.cell_s


def turns_of(runs: int, resamples: int, generator: np.random.Generator) -> Drawn:
    """int64 [resamples, runs]: which runs each draw takes; the only run always."""
    return generator.integers(0, runs, (resamples, runs))


def block_length(levels: Values) -> int:
    """Longer blocks where a second resembles its neighbours more.

    (sqrt(6) r / (1 - r^2))^(2/3) n^(1/3), r the autocorrelation of neighbouring cells: what minimises the error of
    the variance for a series of first order (E. Carlstein, 1986). At most a fifth of the cells, at least one.
    """
    spread = levels - levels.mean()
    power = float((spread**2).sum())
    r = min(0.97, max(0.0, float((spread[1:] * spread[:-1]).sum()) / power)) if power else 0.0
    wanted: float = (math.sqrt(6.0) * r / (1.0 - r * r)) ** (2.0 / 3.0) * math.cbrt(len(levels))
    return int(max(1, min(math.ceil(wanted), len(levels) // 5)))


def draw(cells: int, length: int, resamples: int, generator: np.random.Generator) -> Values:
    """float64 [resamples, cells]: how often each cell was drawn, in blocks that go round the end."""
    blocks = math.ceil(cells / length)
    starts = generator.integers(0, cells, (resamples, blocks))
    places = ((starts[:, :, None] + np.arange(length)) % cells).reshape(resamples, -1)[:, :cells]
    weights = np.zeros((resamples, cells))
    np.add.at(weights, (np.arange(resamples)[:, None], places), 1.0)
    return weights


def resampled(
    runs: Sequence[Counts], turns: Drawn, wanted: Sequence[float], generator: np.random.Generator
) -> Values:
    """float64 [resamples, len(wanted)]: quantiles of drawn runs' drawn blocks, ms."""
    lengths = [block_length(_levels(run)) for run in runs]
    found = []
    for begin in range(0, len(turns), AT_ONCE):
        some = turns[begin : begin + AT_ONCE]
        summed = np.zeros((len(some), BUCKETS))
        for k, run in enumerate(runs):
            # As often as a draw takes a run, so often are its blocks drawn anew.
            for again in range(int((some == k).sum(axis=1).max())):
                takes = (some == k).sum(axis=1) > again
                summed[takes] += draw(len(run), lengths[k], int(takes.sum()), generator) @ run
        found.append(quantile_ms(summed, wanted))
    return np.concatenate(found)


def _levels(run: Counts) -> Values:
    levels = quantile_ms(run[run.sum(axis=1) > 0], 0.5)[:, 0]
    return np.log(levels)


def _means(rates: Sequence[Values], turns: Drawn, generator: np.random.Generator) -> Values:
    """float64 [resamples]: the mean rate of drawn runs' drawn blocks."""
    resamples = len(turns)
    of_runs = [draw(len(r), block_length(r), resamples, generator) @ r / len(r) for r in rates]
    return np.asarray(np.stack(of_runs)[turns.T, np.arange(resamples)].mean(axis=0), np.float64)


def mean_ratio(ratios: Values) -> tuple[float, float, float]:
    """The geometric mean of paired turns' ratios, and Student's interval of it; without bounds for one alone."""
    logs = np.log(ratios)
    mean, turns = float(logs.mean()), len(logs)
    if turns == 1:
        return math.exp(mean), 0.0, math.inf
    reach = float(student.ppf(0.5 + CONFIDENCE / 2.0, turns - 1) * logs.std(ddof=1) / math.sqrt(turns))
    return math.exp(mean), math.exp(mean - reach), math.exp(mean + reach)


def least_shown(turns: int, spread: float) -> float:
    """The smallest ratio above 1 that so many turns can show, where a turn's ratio has this spread.

    exp(t s / sqrt(n)), t of Student's distribution with n - 1 degrees of freedom; infinite for one turn, which does
    not tell how runs differ.
    """
    if turns == 1:
        return math.inf
    return math.exp(float(student.ppf(0.5 + CONFIDENCE / 2.0, turns - 1)) * spread / math.sqrt(turns))


def _ratio(figure: str, a: float, b: float, drawn: Values, own: Values) -> Ratio:
    """The wider of the bootstrap's interval and that of the turns' own ratios (Student's, of logarithms)."""
    tail = 100.0 * (1.0 - CONFIDENCE) / 2.0
    low, high = np.nanpercentile(drawn, (tail, 100.0 - tail)).tolist()
    if len(own) > 1:
        _, least, most = mean_ratio(own)
        low, high = min(low, least), max(high, most)
    return Ratio(figure, float(a), float(b), float(b / a), low, high)
