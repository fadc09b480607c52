"""The desk by symbol, put together over its partitions."""

from __future__ import annotations

import pytest

from gateway.books import PartitionBook
from stack.workflows.standing import standing
from tests.traded_book import TradedBook


def book(partition, symbol, quantity, price, later, **given):
    one = TradedBook(**given)
    one.hold(quantity, price, symbol)
    one.tick(later, symbol)
    return PartitionBook(partition, 7, one.book)


def test_symbols_are_told_in_their_order_and_books_with_how_far_they_are_decided():
    found = standing([book(0, "B", 1.0, 10.0, 12.0), book(1, "A", -1.0, 10.0, 11.0)])
    assert [(one.holding.symbol, one.partition) for one in found.symbols] == [("A", 1), ("B", 0)]
    assert [(one.partition, one.decided_to) for one in found.books] == [(0, 6), (1, 6)]
    assert found.profit == pytest.approx(1.0)


def test_one_symbol_is_told_alone_with_its_own_profit():
    found = standing([book(0, "B", 1.0, 10.0, 12.0), book(1, "A", -1.0, 10.0, 11.0)], "A")
    assert [one.holding.symbol for one in found.symbols] == ["A"]
    assert found.profit == pytest.approx(-1.0)
    assert not standing([book(0, "B", 1.0, 10.0, 12.0)], "C").symbols


def test_other_currencies_are_added_at_their_rates_and_nothing_is_added_that_has_none():
    symbols = {"E": {"currency": "EUR"}}
    found = standing([book(0, "E", 1.0, 10.0, 12.0, symbols=symbols, rates={"EUR": 1.5})])
    assert found.profit == pytest.approx(3.0)
    unknown = standing([book(0, "E", 1.0, 10.0, 12.0, symbols=symbols), book(1, "A", 1.0, 10.0, 12.0)])
    assert unknown.profit is None
