"""Memory is promised before anything starts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from trainers.orchestrator.admission import NEEDS, SMALL_MB, Need, Pool, Taken, is_impossible, refusal
from trainers.orchestrator.cycle import KINDS, REJECT

POOL = Pool("here", 6_000, 10_000, 3)


def test_every_step_has_a_need():
    assert set(NEEDS) == {step for steps in KINDS.values() for step in steps} | {REJECT}


def test_what_is_free_may_be_taken_and_no_more():
    assert not refusal(Need(3_000), POOL, Taken(3_000, 0, 1), None)
    assert refusal(Need(3_001), POOL, Taken(3_000, 0, 1), None) == (
        "it needs 3,001 MB, and 3,000 of 6,000 MB of here are free"
    )
    assert "GPU memory" in refusal(Need(500, 8_000), POOL, Taken(0, 4_000, 1), None)


def test_what_no_pool_of_its_size_ever_has_is_impossible():
    for need in (Need(6_001), Need(500, 10_001)):
        assert is_impossible(need, POOL)
        assert "gives" in refusal(need, POOL, Taken(), None)
    assert not is_impossible(Need(6_000, 10_000), POOL)


def test_the_machine_itself_must_have_it_too_but_for_one_alone():
    assert "the machine has 1,000 MB left" in refusal(Need(2_000), POOL, Taken(2_000, 0, 1), 1_000)
    assert not refusal(Need(2_000), POOL, Taken(), 1_000)


def test_who_only_looks_on_needs_no_place():
    full = Taken(3_000, 0, 3)
    assert "which is the most at once" in refusal(Need(1_000), POOL, full, None)
    assert not refusal(Need(SMALL_MB), POOL, full, None)


@given(st.lists(st.integers(1, 4_000), max_size=30))
def test_promises_never_exceed_the_pool(needs):
    taken = Taken()
    for memory in needs:
        if not refusal(Need(memory), POOL, taken, None):
            taken = Taken(taken.memory_mb + memory, 0, taken.places + (memory > SMALL_MB))
    assert taken.memory_mb <= POOL.memory_mb
    assert taken.places <= POOL.places
