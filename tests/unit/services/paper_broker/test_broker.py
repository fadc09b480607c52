"""The paper broker says of each order what adds up, and the same again after a restart."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.paper_broker.broker import MS, FillModel, reports
from tests.fakes import limit_set
from trading.events import NewOrder, ReportKind
from trading.portfolio.book import Book


def order(number=1, quantity=10.0, price=100.0):
    return NewOrder(f"market.ticks-0-{number}", number, "A", quantity, price, 0, 1_000 * MS, "desk", "s")


@given(st.integers(0, 10_000), st.floats(0.001, 1e6), st.booleans())
def test_what_is_reported_adds_up(number, size, sells):
    terms = FillModel(partial_share=0.5, reject_share=0.1, cancel_share=0.2)
    asked = order(number, -round(size, 3) if sells else round(size, 3))
    found = [due.report for due in reports(asked, terms)]
    assert [r.sequence for r in found] == list(range(len(found)))
    filled = sum(r.quantity for r in found)
    assert abs(filled) <= abs(asked.quantity) + 1e-9
    assert all(r.quantity * asked.quantity > 0 for r in found if r.kind is ReportKind.FILL)
    last = found[-1]
    assert last.left == 0.0
    if last.kind is ReportKind.FILL:
        assert abs(filled - asked.quantity) < 1e-6
    if last.kind is ReportKind.REJECT:
        assert len(found) == 1
    times = [due.at_ns for due in reports(asked, terms)]
    assert times == sorted(times)
    assert times[0] >= asked.sent_ns + terms.latency_ms * MS
    assert [due.report for due in reports(asked, terms)] == found


def test_all_fates_occur_and_cost_what_the_terms_say():
    terms = FillModel(partial_share=0.5, reject_share=0.1, cancel_share=0.2, slippage_bps=10.0, fee_bps=5.0)
    found = [[d.report for d in reports(order(k), terms)] for k in range(500)]
    kinds = {tuple(r.kind for r in one) for one in found}
    fill, reject, cancel = ReportKind.FILL, ReportKind.REJECT, ReportKind.CANCEL
    assert {(fill,), (fill, fill), (fill, fill, fill), (reject,), (fill, cancel)} <= kinds
    whole = next(one[0] for one in found if len(one) == 1 and one[0].kind is fill)
    assert (whole.price, round(whole.fee, 9)) == (100.1, round(10.0 * 100.1 * 5e-4, 9))
    sold = [
        d.report
        for d in reports(order(quantity=-10.0), FillModel(slippage_bps=10.0, partial_share=0.0, reject_share=0.0))
    ]
    assert sold[0].price == 99.9


def test_a_book_that_takes_all_reports_holds_what_was_filled_and_nothing_works():
    terms, book = FillModel(partial_share=0.7, reject_share=0.1, cancel_share=0.2), Book(limit_set())
    book.observe("A", 1, 100.0)
    total = 0.0
    for k in range(200):
        quantity = 10.0 if k % 3 else -7.0
        book.accept("A", quantity, 100.0, k, assumed=False)
        said = [d.report for d in reports(order(k, quantity), terms)]
        total += sum(r.quantity for r in said)
        book.apply(said)
    position = book.position("A")
    assert (position.buying, position.selling, len(book.working)) == (0.0, 0.0, 0)
    assert abs(position.quantity - total) < 1e-6
