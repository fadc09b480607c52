"""Which working orders a stop ends."""

from __future__ import annotations

import pytest

from tests.fakes import limit_set
from trading.events import ExecutionReport, ReportKind
from trading.portfolio.book import Book
from trading.portfolio.cancels import to_cancel
from trading.risk.trading_state import ACTIVE, HALTED, KILLED, REDUCING

LIMITS = limit_set(max_order_notional=1e9, max_concentration=None)
EXITS = limit_set(max_order_notional=1e9, max_concentration=None, halted_allows_exits=True)


def book(limits, held, *orders):
    """A book that holds `held` of A, and whose orders from number 1 on work."""
    made = Book(limits)
    for symbol in ("B", "A"):
        made.observe(symbol, 1, 100.0)
    if held:
        made.accept("A", held, 100.0, 0, assumed=True)
    for number, quantity in enumerate(orders, start=1):
        made.accept("A", quantity, 100.0, number, assumed=False)
    return made


def ended(made, severity):
    return [one.number for one in to_cancel(made, severity)]


@pytest.mark.parametrize("severity", [ACTIVE, REDUCING])
def test_what_is_no_stop_ends_nothing(severity):
    assert to_cancel(book(LIMITS, 10.0, 5.0, -5.0), severity) == []


@pytest.mark.parametrize(("limits", "severity"), [(LIMITS, HALTED), (LIMITS, KILLED), (EXITS, KILLED)])
def test_a_stop_ends_everything_where_exits_are_not_let_through(limits, severity):
    found = to_cancel(book(limits, 10.0, 5.0, -4.0), severity)
    assert [(one.number, one.symbol, one.left) for one in found] == [(1, "A", 5.0), (2, "A", -4.0)]


@pytest.mark.parametrize(
    ("held", "orders", "numbers"),
    [
        (10.0, [5.0, -4.0], [1]),
        (-10.0, [5.0, -4.0], [2]),
        (10.0, [-6.0, -5.0], [2]),  # together they would cross zero: the older works on
        (10.0, [-6.0, -5.0, -4.0], [2]),
        (10.0, [-10.0], []),
        (10.0, [-10.1], [1]),
        (0.0, [-1.0, 1.0], [1, 2]),
    ],
)
def test_a_halt_leaves_exits_that_do_not_cross_zero(held, orders, numbers):
    assert ended(book(EXITS, held, *orders), HALTED) == numbers


def test_an_exit_is_ended_once_others_have_done_its_work():
    made = book(EXITS, 10.0, -6.0, -3.0)
    assert ended(made, HALTED) == []
    # An order of somebody else sold most of it.
    made.apply([ExecutionReport("x", -1, 0, "A", ReportKind.FILL, -8.0, 100.0, 0.0, 0.0, 0)])
    assert ended(made, HALTED) == [1, 2]


def test_a_part_that_was_filled_is_not_cancelled_and_a_finished_order_neither():
    made = book(LIMITS, 0.0, 8.0, 3.0)
    made.apply(
        [
            ExecutionReport("a", 1, 0, "A", ReportKind.FILL, 6.0, 100.0, 0.0, 2.0, 0),
            ExecutionReport("b", 2, 0, "A", ReportKind.FILL, 3.0, 100.0, 0.0, 0.0, 0),
        ]
    )
    assert [(one.number, one.left) for one in to_cancel(made, KILLED)] == [(1, 2.0)]


def test_reports_that_have_come_count_before_a_tick_takes_them_and_leave_the_book_as_it_is():
    made = book(EXITS, 10.0, -6.0, -3.0, 2.0)
    before = made.dump()
    filled = ExecutionReport("a", 1, 0, "A", ReportKind.FILL, -6.0, 100.0, 0.0, 0.0, 0)
    other = ExecutionReport("x", -1, 0, "A", ReportKind.FILL, -2.0, 100.0, 0.0, 0.0, 0)
    assert ended(made, HALTED) == [3]
    # Of the 10 held 2 are left, and an exit of 3 would cross zero; the first has done its work.
    assert [one.number for one in to_cancel(made, HALTED, [filled, filled, other])] == [2, 3]
    assert made.dump() == before
