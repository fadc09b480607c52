"""Drift and decay are told where they are, and hardly ever where they are not."""

from __future__ import annotations

import numpy as np
import pytest
from msgspec.structs import replace

from trading.errors import ConfigurationError
from trading.features.definitions import FEATURES
from trainers.costs import Costs
from trainers.online.drift import (
    DECAY,
    DRIFT,
    DriftSettings,
    Stability,
    TooLittle,
    block_deviation,
    block_size,
    follows,
    kinds_of,
    psi,
    smoothed,
    watch,
)
from trainers.online.worth import MEASURES, Observed, blocks_of, worth

SETTINGS = DriftSettings(block_rows=100)


def market(rows, seed=0, skill=0.3, mean=0.0, miscalibrated=0.0, earns=0.05):
    """Rows that follow from nothing, of models whose skill is known."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(rows, len(FEATURES))).astype(np.float32)
    features[:, 3] += mean
    target = np.tanh(rng.normal(size=rows))
    realised = skill * target + rng.normal(size=rows) * 0.5
    up = rng.beta(2.0, 2.0, rows)
    taught = np.column_stack([up, 1.0 - up, np.zeros(rows)])
    told = np.clip(up + miscalibrated, 0.0, 1.0)
    return Observed(
        features, np.column_stack([told, 1.0 - told, np.zeros(rows)]), taught, target, realised,
        earns + rng.normal(size=rows) * 0.3, np.arange(rows) * 10**9,
    )  # fmt: skip


REFERENCE = market(6_000, seed=1)


def test_a_market_that_stays_what_it_is_alarms_nobody():
    alarms = sum(len(watch(REFERENCE, market(50_000, seed=10 + k), SETTINGS)) for k in range(6))
    # One in a hundred thousand rows is allowed.
    assert alarms <= 3


@pytest.mark.parametrize(
    ("changed", "kind", "what", "detector", "rows"),
    [
        ({"mean": 1.5}, DRIFT, FEATURES[3], "psi", 400),
        ({"skill": 0.0}, DECAY, "information_coefficient", "page_hinkley", 2_000),
        ({"earns": -0.1}, DECAY, "net_utility", "page_hinkley", 2_000),
        ({"miscalibrated": 0.2}, DRIFT, "calibration_error", "page_hinkley", 2_000),
    ],
)
def test_what_is_planted_is_found_and_named(changed, kind, what, detector, rows):
    for seed in range(5):
        found = watch(REFERENCE, market(8_000, seed=30 + seed, **changed), SETTINGS)
        (one,) = [alarm for alarm in found if alarm.what == what]
        assert (one.kind, one.detector) == (kind, detector) or one.detector == "adwin"
        assert 0 < one.rows <= rows
        assert kinds_of(found) == [kind]
        assert what in one.sentence


def test_what_got_better_alarms_nobody():
    for better in ({"skill": 0.9}, {"earns": 0.5}):
        found = watch(REFERENCE, market(8_000, seed=3, **better), SETTINGS)
        assert [one.what for one in found] == []


def test_alarms_are_a_function_of_the_rows_alone():
    seen = market(8_000, seed=9, skill=-0.2, mean=2.0)
    assert watch(REFERENCE, seen, SETTINGS) == watch(REFERENCE, seen, SETTINGS)
    # More of the log moves none of them.
    longer = market(8_000, seed=9, skill=-0.2, mean=2.0)
    assert watch(REFERENCE, longer.part(slice(0, 6_000)), SETTINGS) == watch(REFERENCE, seen, SETTINGS)


def test_a_feature_that_remembers_longer_than_the_reference_is_not_watched():
    slow = REFERENCE.features.copy()
    slow[:, 5] = np.repeat(np.arange(12.0), 500)
    bound = Stability(slow, 500, SETTINGS)
    assert np.isinf(bound.most[5])
    assert np.isfinite(np.delete(bound.most, 5)).all()


def test_blocks_are_as_long_as_it_takes():
    assert block_size(REFERENCE, SETTINGS) == 100
    rng = np.random.default_rng(0)
    swell = np.repeat(rng.normal(size=60), 400)[: len(market(24_000))]
    slow = replace(market(24_000, seed=2), utility=swell)
    assert block_size(slow, SETTINGS) >= 400
    with pytest.raises(ConfigurationError, match="at least 1,600 are needed"):
        block_size(REFERENCE.part(slice(0, 1_500)), SETTINGS)


def test_where_too_little_or_no_number_is_known_nothing_is_said_to_be_well():
    with pytest.raises(TooLittle, match="90 ripe rows came after the reference, and 200 are needed"):
        watch(REFERENCE, market(90), SETTINGS)
    broken = replace(REFERENCE, utility=np.where(np.arange(len(REFERENCE)) == 5, np.nan, REFERENCE.utility))
    with pytest.raises(ConfigurationError, match="utility of 1 rows of the reference is not finite"):
        watch(broken, market(2_000), SETTINGS)
    with pytest.raises(ConfigurationError, match="utility of 1 rows of what came after it is not finite"):
        watch(REFERENCE, broken, SETTINGS)


def test_the_index_is_the_published_one():
    now, before = np.array([0.2, 0.3, 0.5]), np.array([0.1, 0.4, 0.5])
    assert float(psi(now, before)) == pytest.approx(0.1 * np.log(2.0) - 0.1 * np.log(0.75))
    assert smoothed(np.array([0.0, 9.0])).tolist() == [0.5 / 10.0, 9.5 / 10.0]
    assert float(psi(before, before)) == 0.0


def test_blocks_that_follow_from_one_another_deviate_more():
    rng = np.random.default_rng(1)
    alone = rng.normal(size=4_000)
    walk = np.zeros(4_000)
    for k in range(1, 4_000):
        walk[k] = 0.5 * walk[k - 1] + alone[k]
    assert follows(walk) == pytest.approx(0.5, abs=0.05)
    # The long-run deviation of a first-order autoregression: 1 / (1 - 0.5).
    assert block_deviation(walk) == pytest.approx(2.0, rel=0.1)
    assert block_deviation(alone) == pytest.approx(1.0, rel=0.1)
    assert block_deviation(np.ones(10)) > 0.0


def test_worth_counts_costs_where_the_target_changes(lived):
    rows = np.flatnonzero(lived.labels.valid)[:4_000]
    costs = Costs()
    still = worth(lived, rows, np.ones(len(rows)), costs)
    gains = lived.labels.next_log_return[rows]
    first = [int(np.flatnonzero(lived.symbols[rows] == s)[0]) for s in np.unique(lived.symbols[rows])]
    unit = costs.unit(lived.half_spread[rows])
    paid = np.zeros(len(rows))
    paid[first] = unit[first]
    assert np.allclose(still.net, gains - paid)
    nothing = worth(lived, rows, np.zeros(len(rows)), costs)
    assert not nothing.net.any()
    assert not nothing.utility.any()
    shown = REFERENCE.measures(100)
    assert shown.shape == (60, len(MEASURES))
    assert blocks_of(250, 100) == [slice(0, 100), slice(100, 200)]
