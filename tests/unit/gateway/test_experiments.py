"""Rows are their arms': one call an arm, the champion asked for all; whatever a challenger does, each row is decided."""

from __future__ import annotations

import numpy as np
import pytest
from msgspec import structs

from gateway.arms import Division, nothing_like, overlaid
from gateway.experiments import LEAST_PATIENCE_S, patience_ns
from gateway.ports import RunningCanary
from tests.challengers import FakeCanaries, FakeChallenger, canary
from tests.fakes import FakeClock, FakePredictor, limit_set
from tests.recorded_desk import recorded
from tests.unit.gateway.test_pipeline import START, Bench
from trading.decision.policy import DecisionPolicy
from trading.decision.schema import Reason
from trading.errors import InvalidPrediction, PredictorTimeout, PredictorUnavailable
from trading.experiments.arms import Arm
from trading.experiments.assignment import CanaryArms, ShareStep
from trading.market import Tick

SECOND = 1_000_000_000
BLOCK_NS = 10 * SECOND
POLICY = DecisionPolicy(limit_set(max_order_notional=1e6, max_concentration=None))


TICKS = [
    Tick(symbol, START + block * BLOCK_NS + k, 99.99, 100.01, 1.0, 1.0)
    for block in range(30)
    for k, symbol in enumerate("ABCD")
]


def decisions_of(*canaries, predictor=None, ticks=TICKS):
    made = Bench([ticks], predictor=predictor)
    made.build(POLICY, canaries=FakeCanaries(*canaries))
    return made, made.run()


def arms_of(found):
    return {(d.symbol, d.event_time_ns): (d.variant, d.assigned, d.fallback) for d in found}


def expected(one):
    return [one.arms.arm_of(t.symbol, t.event_time_ns // BLOCK_NS)[0] for t in TICKS]


def test_each_row_is_decided_by_the_arm_of_its_unit_with_one_call_an_arm():
    model = FakeChallenger()
    one = canary(model)
    made, found = decisions_of(one)
    wanted = expected(one)
    assert 30 < sum(wanted) < 90
    assert [d.assigned for d in found] == ["newer" if arm else "champion" for arm in wanted]
    assert [d.variant for d in found] == ["newer" if arm else "champion" for arm in wanted]
    assert {d.experiment for d in found} == {"fresh@5"}
    assert {(d.variant, d.model_name, d.model_version) for d in found} == {
        ("champion", "trading_decision", "7"), ("newer", "trading_decision_fused", "9"),
    }  # fmt: skip
    assert {(d.variant, d.target_position) for d in found} == {("champion", 0.5), ("newer", -0.25)}
    # The champion is asked for all of them, the challenger for its own.
    assert [len(b) for b in made.predictor.batches] == [len(TICKS)]
    (asked,) = model.asked
    assert (asked == made.predictor.batches[0][np.flatnonzero(wanted)]).all()


@pytest.mark.parametrize(
    ("model", "fallback"),
    [
        (None, "not_served"),
        (FakeChallenger(fails=PredictorUnavailable("the breaker is open")), "unavailable"),
        (FakeChallenger(late=PredictorTimeout("no answer within 3 ms")), "timeout"),
        (FakeChallenger(late=InvalidPrediction("signals is absent")), "invalid"),
        (FakeChallenger(late=PredictorUnavailable("gone")), "unavailable"),
        (FakeChallenger(broken=range(500)), "invalid"),
        (FakeChallenger(late=ValueError("not enough values to unpack")), "invalid"),
        (FakeChallenger(fails=KeyError("features")), "invalid"),
    ],
)
def test_what_a_challenger_does_not_answer_is_the_champions_and_recorded(model, fallback):
    one = canary(model)
    _, found = decisions_of(one)
    _, alone = decisions_of()
    wanted = expected(one)
    for d, champion, arm in zip(found, alone, wanted, strict=True):
        assert (d.assigned, d.fallback) == (("newer", fallback) if arm else ("champion", ""))
        assert (d.variant, d.model_version) == ("champion", "7")
        # In all else it is what the champion would have decided.
        plain = structs.replace(d, experiment="", assigned="", fallback="", stages=champion.stages)
        assert structs.replace(plain, decided_at_ns=champion.decided_at_ns) == champion


def test_what_a_batch_waits_for_a_challenger_is_told_apart():
    clock = FakeClock()

    class Slow(FakeChallenger):
        def result(self, timeout_s):
            clock.advance(2.0)
            return super().result(timeout_s)

    made = Bench([TICKS], clock=clock)
    made.build(POLICY, canaries=FakeCanaries(canary(Slow())))
    found = made.run()
    # Rows of the champion waited with the others.
    assert {(d.assigned, d.stages.waited_us) for d in found} == {("champion", 2000.0), ("newer", 2000.0)}
    assert all(d.stages.inference_us >= d.stages.waited_us for d in found)
    # One that is not asked is not waited for, and one that is asked beside it is.
    both = Bench([TICKS], clock=clock)
    symbols = {"one": ["A", "B"], "two": ["C", "D"]}
    both.build(
        POLICY,
        canaries=FakeCanaries(
            canary(Slow(), name="one", symbols=symbols["one"]), canary(None, name="two", symbols=symbols["two"])
        ),
    )
    assert {d.stages.waited_us for d in both.run()} == {2000.0}
    twice = Bench([TICKS], clock=clock)
    twice.build(
        POLICY, canaries=FakeCanaries(*(canary(Slow(), name=name, symbols=symbols[name]) for name in symbols))
    )
    assert {d.stages.waited_us for d in twice.run()} == {0.0}
    _, alone = decisions_of()
    assert {d.stages.waited_us for d in alone} == {0.0}
    logs = recorded("simulate:regimes?seed=3&ticks=300&symbols=4", 300, assumed=True)
    # Nor is it written where nobody waited.
    assert not any(b"waited_us" in payload for log in logs.values() for payload in log.published)


def test_of_an_answer_the_rows_that_may_be_used_are_used():
    model = FakeChallenger(broken=[0, 2])
    one = canary(model)
    _, found = decisions_of(one)
    mine = [d for d, arm in zip(found, expected(one), strict=True) if arm]
    assert [d.fallback for d in mine[:4]] == ["invalid", "", "invalid", ""]
    assert [d.variant for d in mine[:4]] == ["champion", "newer", "champion", "newer"]


def test_where_the_champion_fails_its_rows_are_held_and_the_challengers_are_decided():
    one = canary(FakeChallenger())
    _, found = decisions_of(one, predictor=FakePredictor(error=PredictorTimeout("late")))
    for d, arm in zip(found, expected(one), strict=True):
        if arm:
            assert (d.variant, d.target_position, d.reason is Reason.PREDICTOR_TIMEOUT) == ("newer", -0.25, False)
        else:
            assert (d.model_version, d.reason) == ("", Reason.PREDICTOR_TIMEOUT)


def test_another_champion_ends_what_was_compared_with_this_one():
    model = FakeChallenger()
    _, found = decisions_of(canary(model, champion=("trading_decision", "6")))
    assert {d.fallback for d in found if d.assigned == "newer"} == {"champion_changed"}
    assert {d.model_version for d in found} == {"7"}
    _, found = decisions_of(canary(model, champion=("trading_decision_fused", "7")))
    assert {d.fallback for d in found if d.assigned == "newer"} == {"champion_changed"}


def test_many_ramps_in_one_batch_are_each_told():
    """A gateway that catches up has blocks of many shares in a batch: more arms than a byte counts."""
    first = TICKS[0].event_time_ns // BLOCK_NS
    steps = tuple(ShareStep(first - 1 + k, 1.0, 1000 + k) for k in range(40))
    arms = CanaryArms("fresh", "salt-of-fresh", BLOCK_NS, 8, frozenset(), steps)
    challengers = tuple(Arm(f"arm-{k}", "trading_decision_fused", str(k)) for k in range(8))
    one = RunningCanary(arms, ("trading_decision", "7"), challengers, (None,) * 8)
    ticks = [
        Tick(f"S{k}", START + block * BLOCK_NS + k, 99.99, 100.01, 1.0, 1.0)
        for block in range(30)
        for k in range(30)
    ]
    _, found = decisions_of(one, ticks=ticks)
    assert len({(d.experiment, d.assigned) for d in found}) > 128
    for d in found:
        arm, offset = arms.arm_of(d.symbol, d.event_time_ns // BLOCK_NS)
        assert (d.experiment, d.assigned, d.fallback) == (f"fresh@{offset}", f"arm-{arm - 1}", "not_served")


def test_outside_of_an_experiments_units_nothing_is_different():
    _, alone = decisions_of()
    last = START // BLOCK_NS + 1000
    for one in (canary(FakeChallenger(), from_block=last), canary(FakeChallenger(), symbols="Z")):
        _, found = decisions_of(one)
        assert [d.experiment for d in found] == [""] * len(TICKS)
        assert arms_of(found) == arms_of(alone)


def test_two_experiments_divide_symbols_of_their_own():
    first, second = FakeChallenger(target=-0.25), FakeChallenger(target=0.75)
    ones = canary(first, 1.0, "one", symbols="A"), canary(second, 1.0, "two", symbols="BC")
    _, found = decisions_of(*ones)
    assert {(d.symbol, d.experiment, d.target_position) for d in found} == {
        ("A", "one@5", -0.25), ("B", "two@5", 0.75), ("C", "two@5", 0.75), ("D", "", 0.5),
    }  # fmt: skip


def test_a_challenger_is_waited_for_as_long_again_as_the_champion_took_and_never_for_much():
    ms = 1_000_000
    assert patience_ns(1 * ms, 45 * ms) == int(LEAST_PATIENCE_S * 1e9)
    assert patience_ns(8 * ms, 45 * ms) == 8 * ms
    # With little left, a quarter of what the champion leaves.
    assert patience_ns(30 * ms, 45 * ms) == 15 * ms // 4
    assert patience_ns(50 * ms, 45 * ms) == 0


def test_units_are_remembered_as_long_as_the_same_canaries_run():
    division, one = Division(), (canary(None),)
    times = np.array([t.event_time_ns for t in TICKS])
    symbols = [t.symbol for t in TICKS]
    first = division.of(one, symbols, times)
    again = division.of(one, symbols, times)
    assert first.keys() == again.keys()
    assert all((first[unit] == again[unit]).all() for unit in first)
    everyone = division.of((canary(None, 1.0),), symbols, times)
    assert [(u.arm, len(rows)) for u, rows in everyone.items()] == [(1, len(TICKS))]


def test_an_answer_is_laid_over_another_without_touching_either():
    base, other = FakePredictor(0.5).predict(np.zeros((4, 32), np.float32), 1.0), FakePredictor(-1.0)
    other.broken_rows = {1}
    answer = other.predict(np.zeros((3, 32), np.float32), 1.0)
    found = overlaid(base, 4, [(np.array([3, 1]), answer)])
    assert found.target_position.tolist() == [0.5, -1.0, 0.5, -1.0]
    assert base.target_position.tolist() == [0.5] * 4
    assert not found.strategy_signals.flags.writeable
    nothing = nothing_like(answer, 4)
    laid = overlaid(None, 4, [(np.array([0, 2]), answer)])
    assert laid.valid.tolist() == [True, False, True, False]
    assert not nothing.valid.any()
