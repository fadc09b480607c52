"""`price_increment`: what it denies, clips and lets pass."""

from __future__ import annotations

from tests.rules import ACCEPT, traded


def test_price_increment():
    made = traded(price_increment=0.05)
    assert made.judge(1.0, price=100.05).outcome is ACCEPT
    assert made.judge(1.0, price=100.06).broken == ("price_increment",)
    assert made.judge(1.0, limit_price=100.07).broken == ("price_increment",)
