"""`order_size`: what it denies, clips and lets pass."""

from __future__ import annotations

from tests.rules import ACCEPT, CLIP, beyond, traded


def test_an_order_beyond_the_largest_quantity_is_clipped_to_it():
    made = traded(max_order_quantity=7.0)
    assert made.judge(7.0).outcome is ACCEPT
    verdict = made.judge(beyond(7.0))
    assert (verdict.outcome, verdict.quantity, verdict.broken) == (CLIP, 7.0, ("order_size",))


def test_sales_count_as_buys_do():
    verdict = traded(max_order_quantity=7.0).judge(-9.0)
    assert (verdict.outcome, verdict.quantity) == (CLIP, -7.0)
