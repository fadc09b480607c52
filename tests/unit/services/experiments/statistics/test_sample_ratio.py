"""Whether arms are given their shares."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import coverage
from services.experiments.statistics.sample_ratio import SampleRatio, of_counts


def test_a_split_of_48_to_52_is_found_by_20_000_units():
    found = [coverage.ratio_found(seed, 0.48) for seed in range(100)]
    assert sum(one > 0 for one in found) >= 98


def test_a_split_as_promised_is_left_alone():
    assert sum(coverage.ratio_found(seed, 0.5) > 0 for seed in range(60)) < coverage.false_alarms_below(60)


def test_a_share_that_was_ramped_is_followed():
    """Units of 5%, 25% and 50% are weighed by the share of their time: their sum would look wrong."""
    chance = np.random.default_rng(2)
    shares = np.repeat([0.05, 0.25, 0.5], 200)
    treated = chance.binomial(50, shares)
    found = of_counts(np.full(600, 50), treated, shares)
    assert not found.is_broken(0.05)
    assert (found.units, found.treated) == (30_000, int(treated.sum()))
    assert found.expected == pytest.approx(50 * shares.sum())
    # The same units, of which a tenth of the treated was lost.
    assert of_counts(np.full(600, 50), (treated * 0.9).astype(np.int64), shares).is_broken(0.05)


@pytest.mark.parametrize(
    ("share", "treated", "broken"), [(0.0, 0, False), (0.0, 1, True), (1.0, 9, False), (1.0, 8, True)]
)
def test_a_share_of_nothing_or_all_is_exact(share, treated, broken):
    found = SampleRatio()
    found.add(9, treated, share)
    assert found.is_broken(0.05) is broken
    found.add(1000, 500, 0.5)
    assert found.is_broken(0.05) is broken


def test_nothing_counted_proves_nothing():
    assert not SampleRatio().is_broken(0.05)
    assert not of_counts(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)).is_broken(0.05)


@pytest.mark.parametrize("counted", [(5, 6, 0.5), (5, -1, 0.5), (5, 2, 1.5), (5, 2, -0.1), (5, 2, float("nan"))])
def test_what_cannot_be_is_refused(counted):
    with pytest.raises(ValueError, match="units at a share"):
        SampleRatio().add(*counted)
