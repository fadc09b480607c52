"""`order_rate`: what it denies, clips and lets pass."""

from __future__ import annotations

from tests.rules import ACCEPT, traded
from tests.traded_book import result


def test_order_rate_of_a_symbol_and_of_the_book():
    made = traded(max_symbol_orders=2, max_orders=3, order_window_s=1.0)
    made.hold(1.0)
    assert made.judge(1.0).outcome is ACCEPT
    made.hold(1.0)
    assert made.judge(1.0).broken == ("order_rate_symbol",)
    made.hold(1.0, 100.0, "B")
    assert made.judge(1.0, "B").broken == ("order_rate",)
    made.tick(100.0, after_s=0.5)
    made.tick(100.0, "B")
    assert made.judge(1.0, "B").broken == ("order_rate",)
    made.tick(100.0, after_s=0.5)
    assert made.judge(1.0, "B").outcome is ACCEPT


def test_a_ring_remembers_as_many_orders_as_any_limit_may_name():
    made = traded(max_symbol_orders=64, order_window_s=10.0)
    for k in range(200):
        made.hold(1.0 if k % 2 else -1.0)
    assert result(made.judge(1.0), "order_rate_symbol").value == 65.0


def test_nautilus_throttles_orders_over_all_symbols_only():
    made = traded(max_symbol_orders=1)
    made.hold(1.0)
    assert made.judge(1.0).broken == ("order_rate_symbol",)
    made.tick(100.0, "B")
    assert made.judge(1.0, "B").outcome is ACCEPT
