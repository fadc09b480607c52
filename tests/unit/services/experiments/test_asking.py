"""A challenger is asked patiently, within its budget, and never in the desk's way."""

from __future__ import annotations

import numpy as np
import pytest
from msgspec import structs

from services.experiments.asking import PATIENCE_S, ArmModel, PatientModel
from services.experiments.call_budget import (
    MOMENT_S,
    MOST_PAUSE_S,
    ROWS,
    SEEN_S,
    WINDOW,
    YIELD_SHARE,
    CallBudget,
    CallLimits,
)
from tests.unit.services.experiments.fakes import FakeClock, FakeModel
from trading.decision.schema import CODES, Action, Decision, Reason, StageTimes
from trading.errors import InvalidPrediction, PredictorDown, PredictorTimeout, ServiceUnavailable
from trading.experiments.definition import ServedModel
from trading.risk.trading_state import TradingState

DOWN = PredictorDown("nobody is there")


def decision(first_feature=1.0, reason=Reason.TARGET, decide_us=100.0):
    return Decision(
        "market.ticks-0-1", "A", 1, Action.HOLD, reason, 0.0, None, 1.0, 0.0, 0.0, 0.1, [first_feature, 2.0], True,
        [1.0], [1.0], [1.0], "m", "1", "champion", TradingState.ACTIVE, None, StageTimes(0.0, 100.0, 200.0, decide_us), 1,
    )  # fmt: skip


def asker(failures=(), share=1.0, took_s=0.01):
    clock = FakeClock()
    budget = CallBudget(CallLimits(share), clock)
    model = FakeModel(clock, took_s=took_s, failures=failures)
    return PatientModel("other", model, budget, clock), model, clock, budget


def test_every_row_is_asked_in_calls_of_a_bounded_size():
    one, model, _, _ = asker(took_s=0.0001)
    found = one.answers([decision()] * 1000)
    # Quick ones grow, and no further than to what the desk does not feel.
    assert [len(rows) for rows in model.asked] == [8, 20, 50, 125, 256, 256, 256, 29]
    assert set(found.targets.tolist()) == {0.5}
    assert set(found.held.tolist()) == {-1}
    assert model.asked[0].dtype == np.float32


def test_slow_calls_are_small_ones():
    one, model, _, budget = asker(took_s=0.0001)
    one.answers([decision()] * 1000)
    assert budget.rows == ROWS[1]
    model.took_s, model.asked = 0.1, []
    one.answers([decision()] * 1000)
    assert [len(rows) for rows in model.asked][-1] <= budget.rows == ROWS[0]


def test_what_a_call_costs_whatever_its_rows_keeps_none_small():
    one, model, clock, budget = asker(share=0.25)
    took = model.predict

    def predict(features, timeout_s):
        model.took_s = 0.010 + 0.00005 * len(features)
        return took(features, timeout_s)

    model.predict = predict
    began = clock.now_s
    one.answers([decision()] * 20_000)
    assert budget.rows > 150
    assert 20_000 / (clock.now_s - began) > 1500


def test_a_call_that_took_very_long_is_followed_by_the_next_before_long_and_can_be_given_up():
    one, model, clock, _ = asker(share=0.25, took_s=120.0)
    began = clock.now_s
    one.answers([decision()] * (ROWS[0] + 1))
    assert clock.now_s - began == pytest.approx(240.0 + MOST_PAUSE_S)
    # Told to end while it waits for its turn, it does.
    one._given_up = lambda: True
    asked = len(model.asked)
    with pytest.raises(ServiceUnavailable, match="nobody wants its answers any more"):
        one.answers([decision()])
    assert len(model.asked) == asked
    assert max(clock.slept) <= MOMENT_S


def test_what_is_refused_says_nothing_of_how_long_rows_take():
    one, _, _, budget = asker([DOWN] * 20, took_s=0.0002)
    one.answers([decision()])
    assert budget.rows <= 2.5 * ROWS[0]


def test_several_share_what_calls_may_take():
    clock = FakeClock()
    budgets = [CallBudget(CallLimits(0.5), clock, lambda n=n: n) for n in (1, 2)]
    pauses = []
    for budget in budgets:
        budget.called(0.01, 8)
        pauses.append(budget._next_s - clock.now_s)
    assert pauses == pytest.approx([0.01, 0.03])


def test_what_the_desk_was_late_for_is_not_asked():
    one, model, _, _ = asker()
    live = (Reason.DEADLINE, Reason.SUPERSEDED, Reason.PREDICTOR_TIMEOUT, Reason.PREDICTOR_UNAVAILABLE)
    found = one.answers([decision(), *(decision(reason=reason) for reason in live)])
    assert [len(rows) for rows in model.asked] == [1]
    assert np.isnan(found.targets).tolist() == [False, *[True] * 4]
    # What the desk's own model had no usable answer to is asked: the challenger may know.
    one.answers([decision(reason=Reason.PREDICTOR_INVALID)])
    assert len(model.asked) == 2


def test_a_row_that_cannot_be_used_is_held_alone():
    one, _, _, _ = asker()
    found = one.answers([decision(), decision(first_feature=-1.0)])
    assert found.held.tolist() == [-1, CODES[Reason.PREDICTOR_INVALID]]
    assert np.isnan(found.targets).tolist() == [False, True]


def test_one_that_does_not_answer_is_asked_again():
    one, model, clock, _ = asker([DOWN, PredictorTimeout("late"), None])
    assert one.answers([decision()]).targets.tolist() == [0.5]
    assert len(model.asked) == 3
    assert clock.slept == [0.5, 0.5]


def test_one_that_stays_away_is_no_fault_of_the_model():
    """Nothing of it is counted: whoever runs the shadow ends it with what is known."""
    one, _, clock, _ = asker([DOWN] * 1000)
    began = clock.now_s
    with pytest.raises(ServiceUnavailable, match="challenger other gives no answer for 30 s: nobody is there"):
        one.answers([decision()] * (ROWS[1] + 1))
    assert PATIENCE_S < clock.now_s - began < PATIENCE_S + 2


def test_one_that_nobody_wants_any_more_is_not_waited_for():
    one, _, clock, _ = asker([DOWN] * 1000)
    one._given_up = lambda: clock.now_s > 102.0
    with pytest.raises(ServiceUnavailable, match="challenger other: nobody wants its answers any more"):
        one.answers([decision()])
    assert clock.now_s < 104.0


def test_an_answer_that_is_none_is_not_asked_for_again():
    one, model, _, _ = asker([InvalidPrediction("another shape")])
    assert one.answers([decision()]).held.tolist() == [CODES[Reason.PREDICTOR_INVALID]]
    assert len(model.asked) == 1


def test_calls_take_their_share_of_time():
    one, model, clock, _ = asker(share=0.25, took_s=0.01)
    began = clock.now_s
    one.answers([decision()] * 1000)
    assert clock.now_s - began == pytest.approx((len(model.asked) - 1) * 0.04 + 0.01)
    assert len(model.asked) > 5


def test_while_the_desk_is_slow_calls_take_a_twentieth_of_the_time():
    one, model, clock, budget = asker(share=0.5)
    budget.observe([decision(decide_us=40_000.0)] * 10)
    assert budget.yields
    began = clock.now_s
    one.answers([decision()] * 500)
    assert clock.now_s - began == pytest.approx((len(model.asked) - 1) * 0.01 / YIELD_SHARE + 0.01)
    assert len(model.asked) > 3
    # It is quick again.
    budget.observe([decision()] * WINDOW)
    assert not budget.yields


def test_a_desk_that_was_slow_long_ago_is_not_slow_for_ever():
    """Who has fallen behind sees nothing of now: it would not catch up."""
    _, _, clock, budget = asker()
    budget.observe([decision(decide_us=40_000.0)] * 10)
    assert budget.yields
    clock.now_s += SEEN_S + 1.0
    budget.observe([])
    assert not budget.yields


def test_what_is_looked_at_is_bounded():
    _, _, _, budget = asker()
    for _ in range(5):
        budget.observe([decision(decide_us=1e6)] * WINDOW)
    budget.observe([structs.replace(decision())] * (3 * WINDOW))
    assert not budget.yields
    assert len(budget._latencies) == WINDOW


def test_what_is_on_record_is_not_asked_again():
    given, model, _, _ = asker()
    champions = decision()
    theirs = structs.replace(
        champions, model_version="2", variant="other", assigned="other", experiment="one@5", target_position=-0.75
    )
    fallen = structs.replace(champions, assigned="other", experiment="one@5", fallback="timeout")
    held = structs.replace(champions, model_version="", reason=Reason.PREDICTOR_INVALID, target_position=None)
    rows = [champions, theirs, fallen, held]
    champion = ArmModel("champion", ServedModel("m", 1), given).answers(rows)
    # The champion is asked where a challenger decided in its place, and nowhere else.
    assert [len(one) for one in model.asked] == [1]
    assert champion.targets[:3].tolist() == pytest.approx([0.1, 0.5, 0.1])
    assert champion.held.tolist() == [-1, -1, -1, CODES[Reason.PREDICTOR_INVALID]]
    other = ArmModel("other", ServedModel("m", 2), given).answers(rows)
    assert [len(one) for one in model.asked] == [1, 3]
    assert other.targets.tolist() == pytest.approx([0.5, -0.75, 0.5, 0.5])
