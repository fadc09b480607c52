"""`order_notional`: what it denies, clips and lets pass."""

from __future__ import annotations

from tests.rules import ACCEPT, traded


def test_the_reference_of_a_notional_is_the_touch_on_the_orders_far_side():
    made = traded(max_order_notional=1_000.0)
    assert made.judge(10.0, price=101.0, bid=99.0, ask=101.0, mid=100.0).broken == ("order_notional",)
    assert made.judge(-10.0, price=99.0, bid=99.0, ask=101.0, mid=100.0).outcome is ACCEPT
