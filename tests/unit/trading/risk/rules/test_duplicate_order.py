"""`duplicate_order`: what it denies, clips and lets pass."""

from __future__ import annotations

from tests.rules import ACCEPT, traded
from trading.portfolio.book import Book
from trading.risk.limits import MOST_SYMBOL_ORDERS


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


def test_every_order_within_the_window_is_compared_not_the_newest_alone():
    made = traded(duplicate_window_s=1.0)
    made.hold(1.0)
    made.hold(-2.0)
    assert made.judge(1.0).broken == ("duplicate_order",)
    assert made.judge(-2.0).broken == ("duplicate_order",)
    assert made.judge(-1.0).outcome is ACCEPT
    made.hold(3.0, 100.5)
    assert made.judge(3.0, price=100.5).broken == ("duplicate_order",)
    assert made.judge(1.0, price=100.5).outcome is ACCEPT


def test_more_orders_within_the_window_than_are_remembered_are_denied():
    made = traded(duplicate_window_s=1.0)
    for k in range(MOST_SYMBOL_ORDERS):
        assert made.judge(1.0 + k).outcome is ACCEPT
        made.hold(1.0 + k)
    assert made.judge(0.5).broken == ("duplicate_order",)
    made.tick(100.0, after_s=1.0)
    assert made.judge(0.5).outcome is ACCEPT


def test_what_was_ordered_before_a_snapshot_is_compared_after_it():
    made = traded(duplicate_window_s=1.0)
    made.hold(1.0)
    made.hold(-2.0)
    made.book = Book.load(made.book.dump(), made.book.limits)
    assert made.judge(1.0).broken == ("duplicate_order",)
