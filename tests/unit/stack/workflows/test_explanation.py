"""Exact Shapley values: they add up, a player that changes nothing gets nothing, and equals get the same."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from stack.workflows.explanation import GROUPS, plot, shapley, to_explanation, worth_of
from tests.unit.gateway.test_pipeline import Bench, quotes
from trading.features.definitions import COLUMN, FEATURES, WARM_TICKS


def test_every_feature_is_in_one_group():
    named = [feature for features in GROUPS.values() for feature in features]
    assert sorted(named) == sorted(FEATURES)
    assert len(GROUPS) == 8


def test_a_sum_gives_each_what_it_adds():
    weights = np.array([1.0, -2.0, 0.0, 5.0])
    worths = np.array([sum(weights[k] for k in range(4) if s >> k & 1) + 7.0 for s in range(16)])
    assert shapley(worths) == pytest.approx(weights)


def test_what_only_two_do_together_is_shared_by_them():
    # Both of the first two, or nothing; the third changes nothing.
    worths = np.array([6.0 if s & 3 == 3 else 0.0 for s in range(8)])
    assert shapley(worths) == pytest.approx([3.0, 3.0, 0.0])


def test_the_gloves_game():
    """Two left gloves and a right one: Shapley's textbook values 1/6, 1/6, 2/3."""
    worths = np.array([1.0 if s & 4 and s & 3 else 0.0 for s in range(8)])
    assert shapley(worths) == pytest.approx([1 / 6, 1 / 6, 2 / 3])


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(-1, 1), min_size=256, max_size=256))
def test_they_add_up_to_the_target(worths):
    found = np.array(worths)
    assert abs(shapley(found).sum() + found[0] - found[-1]) <= 1e-6


def test_an_explanation_says_what_moved_the_target(tmp_path):
    decision = Bench([quotes(WARM_TICKS + 30)]).run()[-1]
    rsi, clock = COLUMN["rsi_14"], COLUMN["week_sin"]

    def model(rows):
        return 0.5 * rows[:, rsi : rsi + 1] - 0.1 * rows[:, clock : clock + 1]

    row, base = np.array(decision.features, np.float32), np.zeros(len(FEATURES), np.float32)
    row[rsi], row[clock] = 0.8, 0.5
    worths = worth_of(model, row, base)
    target = float(model(row[None])[0, 0])
    decision = structs.replace(decision, features=row.tolist(), target_position=target)
    told = to_explanation(decision, "nothing", worths, shapley(worths))
    assert told.is_same
    assert [(one.group, round(one.value, 6)) for one in told.contributions[:2]] == [
        ("momentum", 0.4),
        ("clock", -0.05),
    ]
    assert sum(one.value for one in told.contributions) + told.baseline_target == pytest.approx(target, abs=1e-6)
    assert "momentum raised it by 0.400, clock lowered it by 0.050" in told.sentence
    assert not to_explanation(structs.replace(decision, target_position=0.1), "", worths, shapley(worths)).is_same
    plot(tmp_path / "why.png", told)
    assert (tmp_path / "why.png").stat().st_size > 10_000
