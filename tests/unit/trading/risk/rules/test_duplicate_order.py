"""`duplicate_order`: what it denies, clips and lets pass."""

from __future__ import annotations

from tests.rules import ACCEPT, traded


def test_duplicate_orders():
    made = traded(duplicate_window_s=1.0)
    made.hold(2.0)
    assert made.judge(2.0).broken == ("duplicate_order",)
    assert made.judge(2.001).outcome is ACCEPT
    assert made.judge(-2.0).outcome is ACCEPT
    assert made.judge(2.0, price=100.5).outcome is ACCEPT
    assert made.judge(3.0, number=made.book.position("A").last_number).broken == ("duplicate_order",)
    made.tick(100.0, after_s=0.999)
    assert made.judge(2.0).broken == ("duplicate_order",)
    made.tick(100.0, after_s=0.001)
    assert made.judge(2.0).outcome is ACCEPT


def test_the_first_order_needs_a_number_of_its_own():
    made = traded(duplicate_window_s=1.0)
    assert made.judge(1.0, number=-1).broken == ("duplicate_order",)
    assert made.judge(1.0, number=0).outcome is ACCEPT
