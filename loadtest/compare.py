"""One system against another: ratios of percentiles with confidence intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from msgspec import Struct

from gateway.domain.errors import ConfigurationError
from loadtest.latencies import Counts, Values, quantile_ms
from loadtest.result import Result

QUANTILES = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("p99.9", 0.999))
RESAMPLES = 2000
#: Resamples that are drawn at once.
AT_ONCE = 250
CONFIDENCE = 0.95
#: Fewer cells say nothing about how runs vary.
LEAST_CELLS = 8


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


def compare(a: Sequence[Result], b: Sequence[Result], *, resamples: int = RESAMPLES, seed: int = 0) -> list[Ratio]:
    """Ratios of latency percentiles and of throughput.

    Seconds of a run resemble their neighbours, so that resampling single latencies would promise far too narrow
    an interval. Blocks of neighbouring cells are drawn instead (the circular block bootstrap of Politis and Romano,
    1992), each side on its own; the interval is that of the resampled ratios' percentiles.

    Args:
        a, b: the runs of each side; several, taken in turns, are better than one long one.
        resamples: how many draws.
        seed: of the draws.

    Raises:
        ConfigurationError: a side has too few cells.
    """
    sides = (cells_of(a, "A"), cells_of(b, "B"))
    generator = np.random.default_rng(seed)
    wanted = [q for _, q in QUANTILES]
    drawn = [resampled(counts, wanted, resamples, generator) for counts in sides]
    whole = [quantile_ms(counts.sum(axis=0), wanted) for counts in sides]
    found = []
    for k, (name, _) in enumerate(QUANTILES):
        found.append(_ratio(f"{name}, ms", whole[0][k], whole[1][k], drawn[1][:, k] / drawn[0][:, k]))
    rates = [answered_of(runs) for runs in (a, b)]
    means = [_means(rate, resamples, generator) for rate in rates]
    found.append(_ratio("answers a second", float(rates[0].mean()), float(rates[1].mean()), means[1] / means[0]))
    return found


def cells_of(runs: Sequence[Result], side: str) -> Counts:
    """int64 [cells, BUCKETS] of all runs, one after another."""
    counts = np.concatenate([run.series.matrix() for run in runs])
    if len(counts) < LEAST_CELLS:
        raise ConfigurationError(
            f"{side} has {len(counts)} seconds of measurement, too few to see how they vary ({LEAST_CELLS})"
        )
    return counts


def answered_of(runs: Sequence[Result]) -> Values:
    """Answers a second in each cell; a run's last cell may be cut short, and is left out."""
    found = [
        np.array(run.series.answered[:-1] or run.series.answered, np.float64) / run.series.cell_s for run in runs
    ]
    return np.concatenate(found)


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


def resampled(counts: Counts, wanted: Sequence[float], resamples: int, generator: np.random.Generator) -> Values:
    """float64 [resamples, len(wanted)]: quantiles of drawn blocks, ms."""
    found = []
    levels = quantile_ms(counts[counts.sum(axis=1) > 0], 0.5)[:, 0]
    length = block_length(np.log(levels)) if len(levels) else 1
    for begin in range(0, resamples, AT_ONCE):
        weights = draw(len(counts), length, min(AT_ONCE, resamples - begin), generator)
        found.append(quantile_ms(weights @ counts, wanted))
    return np.concatenate(found)


def _means(rates: Values, resamples: int, generator: np.random.Generator) -> Values:
    return draw(len(rates), block_length(rates), resamples, generator) @ rates / len(rates)


def _ratio(figure: str, a: float, b: float, drawn: Values) -> Ratio:
    tail = 100.0 * (1.0 - CONFIDENCE) / 2.0
    low, high = np.nanpercentile(drawn, (tail, 100.0 - tail)).tolist()
    return Ratio(figure, float(a), float(b), float(b / a), low, high)
