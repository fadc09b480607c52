"""`long_only`: what it denies, clips and lets pass."""

from __future__ import annotations

from tests.rules import ACCEPT, CLIP, DENY, traded


def test_nothing_is_sold_short():
    made = traded(long_only=True)
    verdict = made.judge(-1.0)
    assert (verdict.outcome, verdict.broken) == (DENY, ("long_only",))


def test_what_is_held_may_be_sold_and_no_more():
    made = traded(long_only=True)
    made.hold(3.0)
    assert made.judge(-3.0).outcome is ACCEPT
    verdict = made.judge(-5.0)
    assert (verdict.outcome, verdict.quantity) == (CLIP, -3.0)
