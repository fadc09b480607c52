"""The paper broker says of each order what adds up, and the same again after a restart."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.paper_broker.answered import Said
from services.paper_broker.broker import MS, FillModel, PaperAnswers, cancelled, reports
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


def test_an_order_that_can_be_read_only_after_it_has_expired_is_refused():
    asked, broker = order(), PaperAnswers(FillModel(reject_share=0.0))
    in_time = broker.fresh(asked, asked.expires_ns, "")
    assert [d.report.kind for d in in_time] != [ReportKind.REJECT]
    late = broker.fresh(asked, asked.expires_ns + 1, "")
    assert [(d.report.kind, d.report.reason, d.report.quantity) for d in late] == [
        (ReportKind.REJECT, "expired", 0.0)
    ]


@given(st.integers(0, 10_000), st.integers(0, 3), st.sampled_from([0.0, 0.5]))
def test_what_was_taken_once_is_answered_to_its_end_by_whatever_model(number, said, partial_share):
    before = FillModel(partial_share=0.9, reject_share=0.0, cancel_share=0.1)
    asked = order(number)
    all_of_it = [d.report for d in reports(asked, before)]
    told = all_of_it[:said]
    left = told[-1].left if told else asked.quantity
    for now in (before, FillModel(partial_share=partial_share, seed=9, reject_share=0.0)):
        rest = [d.report for d in PaperAnswers(now).rest(asked, Said(len(told), left))]
        whole = [*told, *rest]
        assert [r.sequence for r in whole] == list(range(len(whole)))
        assert whole[-1].left == 0.0
        if whole[-1].kind is ReportKind.FILL:
            assert abs(sum(r.quantity for r in whole) - asked.quantity) < 1e-6
    assert told + [d.report for d in PaperAnswers(before).rest(asked, Said(len(told), left))] == all_of_it


def test_a_cancel_ends_an_order_in_place_of_its_next_report():
    asked = order()
    first = reports(asked, FillModel(reject_share=0.0))[0].report
    ended = cancelled(first, 7, "cancelled: the desk is halted")
    assert (ended.order_id, ended.sequence, ended.kind) == (asked.order_id, 0, ReportKind.CANCEL)
    assert (ended.quantity, ended.price, ended.fee, ended.left, ended.at_ns) == (0.0, 0.0, 0.0, 0.0, 7)


def told(*states):
    """Stops after trading states, as they lie in the log from offset 0 on."""
    found = Stops()
    for offset, state in enumerate(states):
        found.take(offset, state if isinstance(state, bytes) else command(state))
    return found


def command(state):
    return encode(Command("trading_state", state, "x", "y", 1))


def test_a_killed_desk_has_no_orders_and_a_resumed_one_has():
    assert told().refusal(order()) == told("active").refusal(order()) == ""
    assert told("active", "killed").refusal(order(version=99)) == "the desk is killed"
    assert told("active", "killed", "active").refusal(order()) == ""


def test_under_a_lesser_stop_only_those_are_taken_that_were_decided_knowing_it():
    stops = told("active", "halted")
    assert stops.refusal(order(version=1)) == "decided before the desk was halted"
    assert stops.refusal(order(version=2)) == ""


def test_what_the_broker_does_not_understand_stops_and_rubbish_does_not():
    assert told(b"\xff", b"rubbish").refusal(order()) == ""
    assert told(b"\xff", b'{"kind":"rebalance"}').refusal(order()) == "decided before the desk was reducing"


def test_of_a_log_that_was_made_anew_stops_are_heard_and_nobody_goes_on():
    stops = told("active", "active", "active")
    stops.take(0, command("active"))
    assert stops.refusal(order(version=99)) == "decided before the desk was reducing"
    stops.take(1, command("killed"))
    assert stops.refusal(order(version=99)) == "the desk is killed"
    stops.take(2, command("active"))
    stops.take(3, command("active"))
    assert stops.refusal(order(version=99)) == "the desk is killed"
