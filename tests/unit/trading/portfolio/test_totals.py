"""A book's totals are what adding its positions up gives, whatever prints lay between."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.rules import ACCEPT, traded
from trading.market import MAX_PRICE
from trading.portfolio.book import Book
from trading.risk.limits import LimitSet, LimitsFile

SYMBOLS = ("A", "B", "C")
EXTREME = MAX_PRICE / 2
#: No sum of binary fractions: what a number of another size cannot hold of it is lost.
USUAL = 100.37
prices = st.sampled_from([0.000001, 0.1, USUAL, 3.3, 1e6, EXTREME])
steps = st.one_of(
    st.tuples(st.just("mark"), st.sampled_from(SYMBOLS), prices),
    st.tuples(st.just("fill"), st.sampled_from(SYMBOLS), st.sampled_from([0.1, -0.1, 3.3, -2.7, 1e6, -1e6])),
    st.tuples(st.just("work"), st.sampled_from(SYMBOLS), st.sampled_from([0.3, -0.7])),
)
LIMITS = LimitSet(LimitsFile(defaults={"max_drawdown": None, "max_value_at_risk": 1e9, "capital": 1e6}))


def exact(book):
    """Gross, net and worth of the positions, as fractions."""
    gross = net = worth = Fraction(0)
    for position in book.tables.positions[: len(book.symbols)]:
        quantity, mark = Fraction(float(position.quantity)), Fraction(float(position.mark))
        buying, selling = Fraction(float(position.buying)), Fraction(float(position.selling))
        gross += max(abs(quantity), abs(quantity + buying), abs(quantity - selling)) * mark
        net += (quantity + buying - selling) * mark
        worth += Fraction(float(position.cash)) + Fraction(float(position.cash_rest)) + quantity * mark
    return gross, net, worth


def run(given_steps):
    book, now = Book(LIMITS), 1_700_000_000_000_000_000
    marks = dict.fromkeys(SYMBOLS, USUAL)
    for symbol in SYMBOLS:
        book.observe(symbol, now, USUAL)
    for number, (what, symbol, value) in enumerate(given_steps):
        now += 1_000_000
        if what == "mark":
            marks[symbol] = value
            book.observe(symbol, now, value)
        else:
            book.accept(symbol, value, marks[symbol], number, assumed=what == "fill")
    for symbol in SYMBOLS:
        book.observe(symbol, now, USUAL)
    return book


BACK = [("fill", "A", 3.3), ("fill", "B", 0.1), ("mark", "B", EXTREME), ("mark", "B", USUAL), ("fill", "B", -0.1)]


def own_size(position):
    """What a position is by itself: its value, or the cash that it left behind."""
    return max(abs(Fraction(float(position.quantity))) * 100, abs(Fraction(float(position.cash))))


SOLD_DEAR = [
    ("mark", "A", EXTREME), ("mark", "B", EXTREME), ("fill", "A", 0.1), ("fill", "A", 1e6), ("fill", "B", -1e6),
]  # fmt: skip


@settings(deadline=None, max_examples=200)
@given(st.lists(steps, max_size=30))
@example(BACK)
@example(SOLD_DEAR)
@example([("fill", "A", 1e6), ("mark", "A", EXTREME), ("fill", "A", -1e6), ("mark", "A", 0.1), ("fill", "B", 0.1)])
@example([("fill", "C", -2.7), ("fill", "A", 1e6), ("mark", "A", EXTREME), ("fill", "B", 0.1), ("mark", "A", 0.1)])
def test_totals_are_what_adding_up_gives_after_every_extreme(given_steps):
    book = run(given_steps)
    account = book.tables.account[0]
    for found, wanted in zip((account.gross, account.net, account.worth), exact(book), strict=True):
        # Of what a position itself is, a number holds 16 digits; the sum must lose no more.
        largest = max(own_size(position) for position in book.tables.positions)
        allowed = max(Fraction(1, 10**6), largest / 10**15 + abs(wanted) / 10**12)
        assert abs(Fraction(float(found)) - wanted) <= allowed


def test_a_limit_that_was_full_is_still_full_after_one_extreme_print():
    made = traded(USUAL, max_gross_notional=1_000.0, max_drawdown=None)
    made.hold(9.97)
    made.tick(100.0, "B")
    made.hold(0.001, 100.0, "B")
    made.tick(EXTREME, "B")
    made.tick(100.0, "B")
    assert made.book.gross == pytest.approx(9.97 * USUAL + 0.1, rel=1e-14)
    assert "gross_exposure" in made.judge(1.0, "B").broken
    made.hold(-5.0, USUAL, "A")
    assert made.judge(4.9, "B").outcome is ACCEPT


def test_what_the_book_earned_is_not_lost_in_what_passed_through_it():
    made = traded(USUAL, max_drawdown=None)
    made.hold(1.3)
    made.tick(USUAL + 0.01)
    made.tick(100.0, "B")
    made.hold(0.1, 100.0, "B")
    made.hold(-0.1, 100.37, "B")
    before = made.book.equity
    assert before == pytest.approx(1e6 + 0.013 + 0.037, abs=1e-9)
    made.hold(1e6, 100.0, "B")  # seen in the totals
    made.tick(EXTREME, "B")
    made.tick(100.0, "B")
    made.hold(-1e6, 100.0, "B")
    assert made.book.equity == before
    made.tick(EXTREME, "B")
    made.hold(1e6, EXTREME, "B")  # seen in the cash
    made.hold(-1e6, EXTREME, "B")
    made.tick(100.0, "B")
    assert made.book.equity == before


def test_scenarios_of_the_others_survive_an_extreme():
    """Value at risk after one symbol was marked at a million million times its price is that of never."""

    def at_risk(*, extreme):
        made = traded(max_value_at_risk=1e9, max_drawdown=None, var_min_bars=2)
        made.tick(100.0, "B")
        made.hold(7.3, 100.0, "A")
        made.hold(0.5, 100.0, "B")
        for k in range(8):
            made.tick(100.0 + k % 3, "A", after_s=1.0)
            made.tick(100.0 - k % 2, "B")
        if extreme:
            made.tick(EXTREME, "B")
        made.hold(0.1, symbol="B")
        made.tick(99.0, "B")
        made.hold(-0.1, symbol="B")
        return made.book.tables.scenarios[:8].tolist()

    assert at_risk(extreme=True) == pytest.approx(at_risk(extreme=False), rel=1e-12, abs=1e-12)
