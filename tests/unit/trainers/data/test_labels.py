"""Labels against a reference that is too slow to be wrong; splits that do not touch."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trading.errors import ConfigurationError
from trainers.data.labels import (
    DOWN,
    HALF_LIVES,
    TIME,
    UP,
    by_symbol,
    nearest_variance,
    next_returns,
    triple_barrier,
    uniqueness,
)
from trainers.data.splits import combinatorial, paths, walk_forward

SECOND = 1_000_000_000


def label(symbols, times, mids, deviation, horizon, up=2.0, down=2.0):
    symbols, times, mids = np.array(symbols), np.array(times, np.int64), np.array(mids, float)
    place, ends = by_symbol(symbols, symbols.max() + 1)
    grouped_time, grouped_mid = np.empty_like(times), np.empty_like(mids)
    grouped_time[place], grouped_mid[place] = times, mids
    n = len(symbols)
    side, realised, end, valid = np.empty(n, np.int8), np.empty(n), np.empty(n, np.int64), np.empty(n, bool)
    triple_barrier(
        place,
        ends,
        symbols,
        grouped_time,
        grouped_mid,
        np.full(n, deviation),
        horizon,
        up,
        down,
        side,
        realised,
        end,
        valid,
    )
    return side, realised, end, valid


def slow_label(symbols, times, mids, deviation, horizon, row):
    for j in range(row + 1, len(symbols)):
        if symbols[j] != symbols[row]:
            continue
        if times[j] > times[row] + horizon:
            return TIME, times[row] + horizon, True
        gone = mids[j] - mids[row]
        if gone >= 2.0 * deviation:
            return UP, times[j], True
        if gone <= -2.0 * deviation:
            return DOWN, times[j], True
    return TIME, times[row] + horizon, False


ticks = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3), st.integers(-3, 3)), min_size=1, max_size=60)


@settings(max_examples=200, deadline=None)
@given(ticks, st.integers(1, 12))
def test_the_first_barrier_that_is_met_ends_a_label(steps, horizon):
    symbols = np.array([s for s, _, _ in steps])
    times = np.cumsum([dt for _, dt, _ in steps])
    levels = np.zeros(3)
    mids = []
    for symbol, _, move in steps:
        levels[symbol] += move
        mids.append(levels[symbol])
    side, _, end, valid = label(symbols, times, mids, 1.0, horizon)
    for row in range(len(steps)):
        assert (side[row], end[row], valid[row]) == slow_label(symbols, times, mids, 1.0, horizon, row)


@settings(max_examples=200, deadline=None)
@given(ticks, st.integers(1, 12))
def test_uniqueness_is_the_mean_of_one_over_the_labels_alive(steps, horizon):
    symbols = np.array([s for s, _, _ in steps])
    times = np.cumsum([dt for _, dt, _ in steps]).astype(np.int64)
    end = times + horizon
    valid = np.array([move != 0 for _, _, move in steps])
    place, ends = by_symbol(symbols, 3)
    order = np.empty(len(symbols), np.int64)
    order[place] = np.arange(len(symbols))
    found = uniqueness(order, ends, times, end, valid)
    for symbol in range(3):
        mine = np.flatnonzero(symbols == symbol)
        at = {int(row): k for k, row in enumerate(mine)}
        last = {int(row): max(k for k, other in enumerate(mine) if times[other] <= end[row]) for row in mine}
        alive = [sum(valid[r] and at[int(r)] <= k <= last[int(r)] for r in mine) for k in range(len(mine))]
        for row in mine:
            if valid[row]:
                life = range(at[int(row)], last[int(row)] + 1)
                assert found[row] == pytest.approx(np.mean([1.0 / alive[k] for k in life]))
            else:
                assert found[row] == 0.0


def test_a_price_that_stands_still_has_no_label():
    _, _, _, valid = label([0, 0, 0, 0], [0, 1, 2, 9], [5.0] * 4, 0.0, 3)
    assert not valid.any()


def test_the_next_return_is_of_the_same_symbol():
    symbols = np.array([0, 1, 0, 1])
    place, ends = by_symbol(symbols, 2)
    order = np.empty(4, np.int64)
    order[place] = np.arange(4)
    following, when, has_next = next_returns(order, ends, np.array([5, 6, 8, 9]), np.array([1.0, 10.0, 1.5, 9.0]))
    assert when.tolist() == [8, 9, 8, 9]
    assert following.tolist() == [0.5, -1.0, 0.0, 0.0]
    assert has_next.tolist() == [True, True, False, False]


@pytest.mark.parametrize(
    ("horizon", "name"),
    [
        (1, "volatility_10s"),
        (60 * SECOND, "volatility_10s"),
        (3600 * SECOND, "volatility_10m"),
        (86_400 * 10 * SECOND, "volatility_20d"),
    ],
)
def test_the_variance_nearest_to_the_horizon_is_taken(horizon, name):
    assert nearest_variance(horizon) == name
    assert name in HALF_LIVES


def test_labels_scale_with_the_horizon(regimes):
    z = regimes.labels.realised[regimes.labels.valid] / regimes.labels.deviation[regimes.labels.valid]
    assert 0.7 < z.std() < 1.4


def test_no_training_label_reaches_into_a_test_segment(regimes):
    time_ns, end_ns = regimes.time_ns, regimes.labels.end_ns
    splits = list(walk_forward(time_ns, end_ns, 3, embargo_ns=1_000_000))
    assert len(splits) == 3
    for split in splits:
        assert len(split.train) > 1000
        assert len(split.test) > 500
        assert end_ns[split.train].max() < split.test_start_ns - 1_000_000
        assert time_ns[split.test].min() >= split.test_start_ns
    tests = np.concatenate([s.test for s in splits])
    assert len(tests) == len(set(tests.tolist()))


def test_combinatorial_splits_are_purged_on_both_sides(regimes):
    time_ns, end_ns, embargo = regimes.time_ns, regimes.labels.end_ns, 50_000_000
    splits = list(combinatorial(time_ns, end_ns, 5, 2, embargo))
    assert [s.groups for s in splits] == list(combinations(range(5), 2))
    edges = np.quantile(time_ns, np.linspace(0, 1, 6), method="nearest")
    for split in splits:
        assert not set(split.train.tolist()) & set(split.test.tolist())
        for group in split.groups:
            begin, end = edges[group], edges[group + 1]
            begins, ends = time_ns[split.train], end_ns[split.train]
            assert not ((ends >= begin) & (begins < end + embargo - 1) & (begins < end)).any()
            assert not ((begins > end) & (begins < end + embargo)).any()
    counted = np.zeros(len(time_ns), int)
    for split in splits:
        counted[split.test] += 1
    assert set(counted.tolist()) == {4}


@pytest.mark.parametrize(("groups", "tested"), [(6, 2), (5, 1), (8, 3)])
def test_paths_take_every_group_once_and_every_tested_group_is_used(groups, tested):
    found = paths(groups, tested)
    splits = list(combinations(range(groups), tested))
    assert all([g for _, g in path] == list(range(groups)) for path in found)
    assert all(group in splits[split] for path in found for split, group in path)
    assert len({place for path in found for place in path}) == len(splits) * tested


def test_a_split_that_cannot_be_says_so():
    with pytest.raises(ConfigurationError, match="3 of 3 groups"):
        list(combinatorial(np.arange(10), np.arange(10), 3, 3))
