"""A run as a state machine."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trading.errors import ConfigurationError
from trainers.orchestrator.cycle import KINDS, REJECT, RunState, StepEnd, Verdict, after, first_step, is_seen


def test_a_cycle_goes_through_all_of_its_steps_and_succeeds():
    step, seen = first_step("cycle"), []
    while True:
        seen.append(step)
        then = after("cycle", step, Verdict.NONE, StepEnd.DONE)
        if then.state is RunState.ENDED:
            break
        step = then.step
    assert seen == list(KINDS["cycle"])
    assert then.verdict is Verdict.SUCCEEDED


@pytest.mark.parametrize("end", [StepEnd.AGAIN, StepEnd.LOST])
def test_what_is_tried_again_stays_where_it_is(end):
    for kind, steps in KINDS.items():
        for step in steps:
            then = after(kind, step, Verdict.NONE, end)
            assert (then.state, then.step, then.verdict) == (RunState.READY, step, Verdict.NONE)


@pytest.mark.parametrize(
    ("end", "verdict"),
    [
        (StepEnd.REJECTED, Verdict.REJECTED),
        (StepEnd.FAILED, Verdict.FAILED),
        (StepEnd.CANCELLED, Verdict.CANCELLED),
    ],
)
def test_what_others_see_is_put_back_before_it_ends(end, verdict):
    assert after("cycle", "train", Verdict.NONE, end).state is RunState.ENDED
    assert after("cycle", "train", Verdict.NONE, end).verdict is verdict
    for step in ("gates", "export", "verify", "release", "shadow", "canary", "promote"):
        then = after("cycle", step, Verdict.NONE, end)
        assert (then.state, then.step, then.verdict) == (RunState.READY, REJECT, verdict)
        assert after("cycle", REJECT, then.verdict, StepEnd.DONE).verdict is verdict


@given(st.sampled_from(sorted(KINDS)), st.lists(st.sampled_from(list(StepEnd)), min_size=1, max_size=60))
def test_whatever_comes_a_run_ends_once_and_with_a_verdict(kind, ends):
    step, verdict = first_step(kind), Verdict.NONE
    for end in ends:
        then = after(kind, step, verdict, end)
        step, verdict = then.step, then.verdict
        if then.state is RunState.ENDED:
            assert verdict is not Verdict.NONE
            return
        # Only what was seen is put back, and whatever it was, it is not forgotten.
        assert (step == REJECT) == (verdict is not Verdict.NONE)


def test_an_unknown_kind_or_step_is_refused_by_name():
    with pytest.raises(
        ConfigurationError, match="'circle' is no kind of run: there are cycle, update, training, trial"
    ):
        first_step("circle")
    with pytest.raises(ConfigurationError, match="'dance' is no step of a trial"):
        after("trial", "dance", Verdict.NONE, StepEnd.DONE)


def test_a_trial_is_seen_by_nobody():
    assert not is_seen("trial", "trial")
    assert is_seen("training", "gates")
