"""`leverage`: what it denies, clips and lets pass."""

from __future__ import annotations

from tests.rules import ACCEPT, CLIP, DENY, traded


def test_gross_exposure_over_equity_is_clipped_to_the_limit():
    made = traded(capital=1_000.0, max_leverage=2.0)
    assert made.judge(20.0).outcome is ACCEPT
    verdict = made.judge(21.0)
    assert (verdict.outcome, verdict.quantity, verdict.broken) == (CLIP, 20.0, ("leverage",))


def test_equity_counts_what_is_not_realised_and_exits_pass():
    made = traded(capital=1_000.0, max_leverage=2.0)
    made.hold(20.0)
    made.tick(80.0)  # equity 600, gross 1,600
    assert made.judge(1.0).outcome is DENY
    assert made.judge(-5.0).outcome is ACCEPT
