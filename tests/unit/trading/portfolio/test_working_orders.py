"""A report counts once, however long ago its order ended."""

from __future__ import annotations

import pytest

from tests.fakes import limit_set
from trading.events import ExecutionReport, ReportKind
from trading.portfolio import book as books
from trading.portfolio import working_orders
from trading.portfolio.book import Book
from trading.portfolio.working_orders import FOREIGN


def fill(number, quantity=1.0, sequence=0, symbol="A", order_id=""):
    return ExecutionReport(
        order_id or f"t-0-{number}", number, sequence, symbol, ReportKind.FILL, quantity, 100.0, 0.0, 0.0, 1
    )


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(working_orders, "MOST_FINISHED", 4)
    monkeypatch.setattr(books, "MOST_FINISHED", 4)


def finished(count, book=None):
    book = book or Book(limit_set())
    for number in range(count):
        book.accept("A", 1.0, 100.0, number, assumed=False)
        book.apply([fill(number)])
    return book


@pytest.mark.parametrize("reload", [False, True])
def test_a_report_of_an_order_that_is_forgotten_counts_as_a_repeat(few, reload):
    book = finished(20)
    if reload:
        book = Book.load(book.dump(), book.limits)
    assert len(book.working.finished) == 4
    book.apply([fill(number) for number in range(20)])
    assert book.quantity("A") == 20.0
    # What is newer than all that is forgotten still counts, once.
    book.apply([fill(20), fill(20)])
    assert book.quantity("A") == 21.0


def test_an_old_order_that_still_works_is_not_taken_for_a_forgotten_one(few):
    book = Book(limit_set())
    book.accept("A", 5.0, 100.0, 0, assumed=False)
    for number in range(1, 20):
        book.accept("A", 1.0, 100.0, number, assumed=False)
        book.apply([fill(number)])
    book.apply([fill(0, 2.0), fill(0, 2.0), fill(0, 3.0, sequence=1), fill(0, 3.0, sequence=1)])
    assert book.quantity("A") == 19.0 + 5.0


def test_orders_of_others_count_once_each_by_their_ids():
    book = Book(limit_set())
    for _ in range(3):
        book.apply([fill(FOREIGN, 2.0, order_id="by hand"), fill(FOREIGN, 3.0, order_id="by fax")])
    assert book.quantity("A") == 5.0
    again = Book.load(book.dump(), book.limits)
    again.apply([fill(FOREIGN, 2.0, order_id="by hand")])
    assert again.quantity("A") == 5.0


def test_more_orders_of_others_than_can_be_told_apart_let_only_exits_through(few):
    book = Book(limit_set())
    book.apply([fill(FOREIGN, 1.0, order_id=f"other {k}") for k in range(4)])
    assert book.summary().latched == []
    book.apply([fill(FOREIGN, 1.0, order_id="one more")])
    assert book.summary().latched == ["drawdown"]
    assert len(book.working.foreign) == 4


def test_reports_of_made_up_symbols_do_not_make_a_book_grow_without_end(monkeypatch):
    monkeypatch.setattr(books, "MOST_ROWS", 8)
    book = Book(limit_set())
    book.apply([fill(k, symbol=f"S{k}") for k in range(50)])
    assert len(book.symbols) == 8
    assert book.summary().latched == ["drawdown"]
