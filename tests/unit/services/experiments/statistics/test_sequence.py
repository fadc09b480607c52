"""Intervals that hold however often somebody looks, and are narrow enough to find something."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks import coverage
from benchmarks.coverage import LONG_RUN_VARIANCE, SERIES
from services.experiments.statistics.sequence import FEWEST_BLOCKS, ConfidenceSequence


def held(name, experiments):
    """False alarms, and those that found what was planted within twice the blocks of one look."""
    found = [coverage.experiment(name, seed) for seed in range(experiments)]
    return sum(one.alarm > 0 for one in found), sum(one.found > 0 for one in found)


@pytest.mark.parametrize("name", SERIES)
def test_few_false_alarms_and_most_differences_found(name):
    alarms, found = held(name, 60)
    assert alarms < coverage.false_alarms_below(60)
    # 80% or more find; of 60, fewer than 40 would once in 200 times.
    assert found >= 40


@pytest.mark.slow
def test_of_a_thousand_experiments_67_alarm_at_most():
    for name, mine in coverage.simulate(SERIES, 1000).items():
        assert sum(one.alarm > 0 for one in mine) <= 67, name
        assert sum(one.found > 0 for one in mine) >= 800, name
        # The test can fail: an interval that is made for one look is wrong three times as often.
        assert sum(one.naive > 0 for one in mine) > 200, name


def test_an_interval_is_what_the_formulas_say():
    """By hand: Howard et al. (2021), equation 14, at 1,000 blocks of +1 and -1 in turn, whose variance is 1."""
    outcomes = np.tile([1.0, -1.0], 500)
    found = ConfidenceSequence(1000, 0.05).look(outcomes)
    # Negative autocorrelation is not made use of: the variance is the plain one.
    assert found.variance == pytest.approx(1.0)
    # -W(-0.05^2 / e) - 1 = 8.2 or so solves x - ln(1 + x) = 2 ln(1 / 0.05).
    ratio = 1000 / mixed if (mixed := mixture(1000, 0.05)) else 0
    assert ratio - math.log(1 + ratio) == pytest.approx(-2 * math.log(0.05), rel=1e-6)
    radius = math.sqrt((1000 + mixed) * math.log((1000 + mixed) / (mixed * 0.05**2))) / 1000
    assert (found.mean, found.upper, found.lower) == (0.0, pytest.approx(radius), pytest.approx(-radius))


def mixture(planned, alpha):
    """The same by bisection: planned / m is the x with x - ln(1 + x) = -2 ln(alpha)."""
    low, high = 1e-9, 1e6
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if middle - math.log1p(middle) < -2 * math.log(alpha) else (low, middle)
    return planned / low


def test_it_is_narrowest_where_an_answer_is_planned():
    widths = {}
    for planned in (200, 1000, 5000):
        sequence = ConfidenceSequence(planned, 0.05)
        widths[planned] = sequence.radius(1000, 1.0, 1.0)
    assert widths[1000] < min(widths[200], widths[5000])
    one_way = ConfidenceSequence(1000, 0.05, lower_only=True)
    assert one_way.radius(1000, 1.0, 1.0) < widths[1000]


@pytest.mark.parametrize(
    "outcomes",
    [np.zeros(0), np.ones(FEWEST_BLOCKS - 1), np.zeros(5000), np.full(5000, 7.0), np.array([*np.arange(500.0), np.nan]),
     np.array([*np.arange(500.0), np.inf])],
    ids=["none", "too few", "all zero", "all alike", "no number", "infinite"],
)  # fmt: skip
def test_what_says_nothing_is_said_to_say_nothing(outcomes):
    found = ConfidenceSequence(1000, 0.05).look(outcomes)
    assert (found.lower, found.upper, found.variance) == (-math.inf, math.inf, 0.0)
    assert found.blocks == len(outcomes)


def test_the_same_blocks_say_the_same_however_often_somebody_looked():
    outcomes = SERIES["persistent"](np.random.default_rng(3), 3000)
    sequence = ConfidenceSequence(1000, 0.05)
    looked_often = [sequence.look(outcomes[:n]) for n in range(1, 3001, 50)][-1]
    assert sequence.look(outcomes[:2951]) == looked_often


def test_blocks_that_come_late_to_differ_are_waited_for():
    """A desk that did nothing for its first hundred blocks is not told as certain for ever."""
    outcomes = np.concatenate([np.zeros(150), np.random.default_rng(1).standard_normal(2000)])
    found = ConfidenceSequence(1000, 0.05).look(outcomes)
    assert -1.0 < found.lower < 0.0 < found.upper < 1.0


def test_how_long_it_may_take_is_what_it_takes():
    sequence = ConfidenceSequence(1000, 0.05)
    interval = sequence.look(np.random.default_rng(1).standard_normal(200))
    needed = sequence.blocks_until(0.1, interval, 100_000)
    assert sequence.radius(needed, interval.variance, interval.scale) <= 0.1
    assert sequence.radius(needed - 1, interval.variance, interval.scale) > 0.1
    assert sequence.blocks_until(0.1, interval, needed - 1) is None
    assert sequence.blocks_until(0.0, interval, 100_000) is None


@pytest.mark.parametrize("name", SERIES)
def test_the_variance_of_a_sum_is_found(name):
    """Of a long series, within a fifth; what regimes make of it in one sample is wider."""
    from services.experiments.statistics.long_run_variance import long_run_variance

    found = np.median([long_run_variance(SERIES[name](np.random.default_rng(k), 20_000)) for k in range(9)])
    assert found == pytest.approx(LONG_RUN_VARIANCE[name], rel=0.2)
