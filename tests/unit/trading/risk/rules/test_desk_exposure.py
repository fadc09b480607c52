"""`desk_exposure`: what it denies, clips and lets pass."""

from __future__ import annotations

import math

from tests.rules import ACCEPT, CLIP, DENY, traded


def test_a_book_may_grow_to_what_is_reserved_for_it():
    made = traded(max_desk_notional=1e7)
    verdict = made.judge(11.0, desk_quota=1_000.0)
    assert (verdict.outcome, verdict.quantity, verdict.broken) == (CLIP, 10.0, ("desk_exposure",))
    assert made.judge(10.0, desk_quota=1_000.0).outcome is ACCEPT


def test_without_an_answer_a_book_may_only_shrink():
    made = traded(max_desk_notional=1e7)
    made.hold(5.0)
    assert made.judge(1.0, desk_quota=math.nan).outcome is DENY
    assert made.judge(-5.0, desk_quota=math.nan).outcome is ACCEPT
