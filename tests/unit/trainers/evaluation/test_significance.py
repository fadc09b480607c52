"""Luck, told from skill at the rate that is stated."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest

from trainers.evaluation import significance as s


def test_a_probabilistic_sharpe_ratio_of_normal_returns_is_the_normal_one():
    z = NormalDist()
    returns = np.array([z.inv_cdf((k + 0.5) / 500) for k in range(500)]) * 0.01 + 0.001
    ratio = returns.mean() / returns.std()
    expected = z.cdf(ratio * math.sqrt(499) / math.sqrt(1 + 0.5 * ratio**2))
    assert s.probabilistic_sharpe(returns, 0.0) == pytest.approx(expected, abs=0.003)
    assert s.probabilistic_sharpe(np.ones(10), 0.0) == 0.0


def test_the_expected_best_of_worthless_trials_is_what_simulation_says():
    random = np.random.default_rng(0)
    best = random.normal(size=(4000, 50)).max(axis=1).mean()
    assert s.expected_best(50, 1.0) == pytest.approx(best, rel=0.02)
    assert s.expected_best(1, 1.0) == 0.0


def test_more_trials_deflate_more():
    returns = np.random.default_rng(1).normal(0.0012, 0.01, 1000)
    values = [s.deflated_sharpe(returns, n) for n in (1, 10, 100, 1000)]
    assert values == sorted(values, reverse=True)
    assert values[0] > 0.95 > values[-1]


def test_the_best_of_many_worthless_ways_is_called_significant_at_the_stated_rate():
    called = 0
    for seed in range(200):
        ways = np.random.default_rng(seed).normal(size=(500, 20))
        best = ways[:, np.argmax(ways.mean(axis=0) / ways.std(axis=0))]
        called += s.deflated_sharpe(best, 20) >= 0.95
    # 5 % of 200, with three deviations of room; undeflated, two thirds would be.
    assert called <= 20


def test_overfitting_is_certain_where_it_is_and_absent_where_it_is_not():
    random = np.random.default_rng(2)
    noise = np.mean([s.overfitting_probability(random.normal(size=(300, 12))) for _ in range(10)])
    assert 0.3 < noise < 0.7
    skilled = random.normal(size=(300, 12))
    skilled[:, 3] += 0.5
    assert s.overfitting_probability(skilled) < 0.05
    assert math.isnan(s.overfitting_probability(random.normal(size=(10, 12))))


def test_an_interval_covers_the_mean_as_often_as_it_says():
    """Of autocorrelated returns, where a plain bootstrap would be too sure of itself."""
    covered = 0
    for seed in range(100):
        random = np.random.default_rng(seed)
        shocks = random.normal(size=600)
        returns = np.convolve(shocks, np.ones(4) / 4, "valid")
        interval = s.mean_interval(returns, 0.95, seed)
        covered += interval.low <= 0.0 <= interval.high
    assert 85 <= covered <= 99


def test_an_interval_is_the_same_for_the_same_seed():
    returns = np.random.default_rng(3).normal(size=200)
    assert s.mean_interval(returns) == s.mean_interval(returns) != s.mean_interval(returns, seed=1)
