"""`minimum_size`: what it denies, clips and lets pass."""

from __future__ import annotations

from tests.rules import ACCEPT, traded


def test_minimum_size_spares_exits():
    made = traded(min_quantity=1.0, min_notional=200.0)
    assert made.judge(2.0).outcome is ACCEPT
    assert made.judge(1.999).broken == ("minimum_size",)
    assert traded(min_quantity=1.0).judge(0.999).broken == ("minimum_size",)
    made.hold(0.5)
    assert made.judge(-0.5).outcome is ACCEPT
    assert made.judge(-0.6).broken == ("minimum_size",)
