"""What a book holds and has earned, as people read it."""

from __future__ import annotations

import pytest

from tests.traded_book import TradedBook
from trading.events import ReportKind
from trading.portfolio.holdings import holdings


def only(book):
    (found,) = holdings(book.book)
    return found


def test_profit_is_what_closed_quantities_made_what_is_held_would_make_and_less_the_fees():
    one = TradedBook()
    one.tick(100.0)
    number = one.work(3.0)
    one.report(number, ReportKind.FILL, 3.0, 101.0, fee=0.6)
    number = one.work(-1.0)
    one.report(number, ReportKind.FILL, -1.0, 105.0, fee=0.2)
    one.tick(110.0)
    held = only(one)
    assert (held.quantity, held.average_price, held.mark, held.value) == (2.0, 101.0, 110.0, 220.0)
    assert held.realised == pytest.approx(4.0)
    assert held.unrealised == pytest.approx(18.0)
    assert held.fees == pytest.approx(0.8)
    assert held.profit == pytest.approx(21.2)
    # The same as what the book's own equity says.
    assert one.book.equity - one.book.limits.book.capital == pytest.approx(held.profit)


def test_of_a_short_that_price_rises_against_the_loss_is_told():
    one = TradedBook()
    one.hold(-2.0, 50.0)
    one.tick(60.0)
    held = only(one)
    assert (held.quantity, held.value) == (-2.0, -120.0)
    assert held.unrealised == held.profit == pytest.approx(-20.0)


def test_working_orders_are_beside_what_is_held():
    one = TradedBook()
    one.tick(100.0)
    one.work(3.0)
    one.work(-1.0)
    held = only(one)
    assert (held.quantity, held.buying, held.selling, held.orders) == (0.0, 3.0, 1.0, 2)
    assert held.average_price is None
    assert held.value == held.profit == 0.0


def test_what_is_held_without_a_price_has_no_value_that_anybody_knows():
    one = TradedBook()
    one.hold(2.0, 50.0)
    one.book.position("A").mark = float("nan")
    held = only(one)
    assert held.quantity == 2.0
    assert (held.mark, held.value, held.unrealised, held.profit) == (None, None, None, None)


def test_a_symbol_that_holds_nothing_and_has_no_price_is_worth_nothing():
    one = TradedBook()
    one.tick(float("nan"))
    held = only(one)
    assert (held.mark, held.value, held.profit) == (None, 0.0, 0.0)


def test_symbols_come_in_the_order_of_their_names():
    one = TradedBook()
    for symbol in ("B", "A", "C"):
        one.tick(1.0, symbol)
    assert [held.symbol for held in holdings(one.book)] == ["A", "B", "C"]
