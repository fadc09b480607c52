"""`net_exposure`: what it denies, clips and lets pass."""

from __future__ import annotations

from tests.rules import ACCEPT, traded


def test_net_exposure_lets_hedges_through():
    made = traded(max_net_notional=500.0)
    made.hold(5.0, 100.0, "B")
    assert made.judge(1.0).broken == ("net_exposure",)
    assert made.judge(-10.0).outcome is ACCEPT
    assert made.judge(-11.0).quantity == -10.0
    made.tick(200.0, "B")  # beyond the limit by itself: what brings it nearer passes
    assert made.judge(-1.0).outcome is ACCEPT


def test_net_exposure_clips_on_both_sides():
    made = traded(max_net_notional=1_000.0)
    made.hold(4.0, 100.0, "B")
    assert made.judge(7.0).quantity == 6.0
    assert made.judge(-15.0).quantity == -14.0
