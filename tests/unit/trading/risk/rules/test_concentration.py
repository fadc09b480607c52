"""`concentration`: what it denies, clips and lets pass."""

from __future__ import annotations

from tests.rules import ACCEPT, traded


def test_concentration_counts_the_others():
    made = traded(max_concentration=0.25, capital=1_000.0)
    made.hold(90.0, 100.0, "B")  # 9,000 elsewhere: 3,000 here are a quarter of 12,000
    assert made.judge(30.0).outcome is ACCEPT
    assert made.judge(31.0).quantity == 30.0
