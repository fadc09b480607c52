"""The paper broker says of each order what adds up, and the same again after a restart."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.paper_broker.broker import MS, FillModel, answer, reports
from services.paper_broker.stops import Stops
from tests.fakes import limit_set
from trading.encoding import encode
from trading.events import Command, NewOrder, ReportKind
from trading.portfolio.book import Book

LIFETIME = 500 * MS


def order(number=1, quantity=10.0, price=100.0, version=0):
    sent_ns = 1_000 * MS
    return NewOrder(
        f"market.ticks-0-{number}", number, "A", quantity, price, 0, sent_ns, "desk", "s",
        expires_ns=sent_ns + LIFETIME, state_version=version,
    )  # fmt: skip


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


def test_an_order_that_comes_after_it_has_expired_is_refused_also_after_a_restart():
    asked, terms = order(), FillModel(reject_share=0.0)
    in_time = answer(asked, asked.expires_ns, "", terms)
    assert [d.report.kind for d in in_time] != [ReportKind.REJECT]
    late = answer(asked, asked.expires_ns + 1, "", terms)
    assert [(d.report.kind, d.report.reason, d.report.quantity) for d in late] == [
        (ReportKind.REJECT, "expired", 0.0)
    ]
    assert answer(asked, asked.expires_ns + 1, "", terms) == late


def told(*words):
    """Stops after trading states, each with the time at which the broker took it; offsets count from 0."""
    found = Stops()
    for offset, (at_ns, state) in enumerate(words):
        payload = state if isinstance(state, bytes) else encode(Command("trading_state", state, "x", "y", 1))
        found.take(offset, at_ns, payload)
    return found


def test_a_killed_desk_has_no_orders_and_a_resumed_one_has():
    stops = told((10, "active"), (20, "killed"), (30, "active"))
    assert stops.refusal(order(), 19) == ""
    assert stops.refusal(order(version=99), 20) == stops.refusal(order(), 29) == "the desk is killed"
    assert stops.refusal(order(), 30) == ""
    assert told().refusal(order(), 5) == ""


def test_under_a_lesser_stop_only_those_are_taken_that_were_decided_knowing_it():
    stops = told((10, "active"), (20, "halted"))
    assert stops.refusal(order(version=1), 25) == "decided before the desk was halted"
    assert stops.refusal(order(version=2), 25) == ""
    assert stops.refusal(order(version=1), 19) == ""


def test_what_the_broker_does_not_understand_stops_and_rubbish_does_not():
    stops = told((10, b"\xff"), (15, b"rubbish"), (20, b'{"kind":"rebalance"}'))
    assert stops.refusal(order(), 19) == ""
    assert stops.refusal(order(), 20) == "decided before the desk was reducing"
