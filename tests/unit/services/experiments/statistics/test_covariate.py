"""Variance that is known beforehand is taken out, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import coverage
from services.experiments.statistics.covariate import adjusted
from services.experiments.statistics.sequence import ConfidenceSequence


def test_what_a_covariate_explains_is_taken_out():
    chance = np.random.default_rng(1)
    known = chance.standard_normal(4000)
    outcomes = 0.3 + 2.0 * known + chance.standard_normal(4000)
    found = adjusted(outcomes, known)
    # 4 of 5 parts of the variance were known; after the first hundred blocks they are gone.
    assert found[200:].var() == pytest.approx(1.0, rel=0.1)
    assert found.mean() == pytest.approx(0.3, abs=0.1)
    assert (found[:100] == outcomes[:100]).all()
    before, after = (ConfidenceSequence(1000, 0.05).look(one) for one in (outcomes, found))
    assert after.upper - after.lower < 0.75 * (before.upper - before.lower)


def test_a_covariate_that_explains_nothing_changes_nothing():
    chance = np.random.default_rng(2)
    outcomes, other = chance.standard_normal(4000), chance.standard_normal(4000)
    changed = adjusted(outcomes, other) != outcomes
    assert changed.mean() < 0.1
    assert (adjusted(outcomes, np.zeros(4000)) == outcomes).all()
    assert len(adjusted(np.zeros(0), np.zeros(0))) == 0


def test_an_adjusted_mean_misleads_no_more_often():
    """The slope of a block is of those before it: A/A experiments alarm as rarely as they did."""
    alarms = 0
    for seed in range(60):
        chance = np.random.default_rng(seed)
        known = chance.standard_normal(1000)
        outcomes = adjusted(2.0 * known + coverage.persistent(chance, 1000), known)
        intervals = coverage.looks(ConfidenceSequence(500, 0.05), outcomes)
        alarms += coverage.first_outside(intervals, 0.0) > 0
    assert alarms < coverage.false_alarms_below(60)
