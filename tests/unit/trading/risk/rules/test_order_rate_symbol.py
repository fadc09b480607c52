"""`order_rate_symbol`: what it denies, clips and lets pass."""

from __future__ import annotations

from tests.rules import ACCEPT, DENY, traded


def test_one_symbols_orders_do_not_count_for_another():
    made = traded(max_symbol_orders=2, order_window_s=1.0)
    made.tick(50.0, "B")
    made.hold(1.0)
    made.hold(1.0)
    verdict = made.judge(1.0)
    assert (verdict.outcome, verdict.broken) == (DENY, ("order_rate_symbol",))
    assert made.judge(1.0, symbol="B").outcome is ACCEPT


def test_after_the_window_there_is_room_again():
    made = traded(max_symbol_orders=1, order_window_s=1.0)
    made.hold(1.0)
    assert made.judge(1.0).outcome is DENY
    made.tick(100.0, after_s=1.0)
    assert made.judge(1.0).outcome is ACCEPT
