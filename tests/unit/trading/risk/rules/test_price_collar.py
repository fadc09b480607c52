"""`price_collar`: what it denies, clips and lets pass."""

from __future__ import annotations

import math

from tests.rules import ACCEPT, beyond, traded


def test_price_collar():
    made = traded(price_collar=0.5)
    assert made.judge(1.0, price=150.0, mid=100.0).outcome is ACCEPT
    assert made.judge(1.0, price=50.0, mid=100.0).outcome is ACCEPT
    assert made.judge(1.0, price=beyond(150.0), mid=100.0).broken == ("price_collar",)
    assert made.judge(1.0, price=100.0, limit_price=151.0, mid=100.0).broken == ("price_collar",)
    assert made.judge(1.0, price=100.0, mid=math.nan).broken == ("price_collar",)
    assert made.judge(1.0, price=100.0, mid=0.0).broken == ("price_collar",)
