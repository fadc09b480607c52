"""Orders with what was said of each."""

from __future__ import annotations

import pytest

from stack.workflows.ordered import OrderState, records
from trading.events import CancelOrder, ExecutionReport, NewOrder, ReportKind
from trading.risk.trading_state import TradingState

SENT_NS, MS = 1_700_000_000_000_000_000, 1_000_000


def order(name="t-0-1", quantity=2.0):
    return NewOrder(name, 1, "BTCUSDT", quantity, 100.0, SENT_NS, SENT_NS, "a", "s")


def report(kind, quantity=0.0, left=0.0, sequence=0, price=0.0, reason="", name="t-0-1", fee=0.0):
    return ExecutionReport(name, 1, sequence, "BTCUSDT", kind, quantity, price, fee, left, 0, reason)


def cancel(name="t-0-1"):
    return CancelOrder(name, 1, "BTCUSDT", 2.0, TradingState.HALTED, SENT_NS, "a", "s")


def one(reports=(), cancels=(), **of):
    (found,) = records([order(**of)], cancels, [(SENT_NS + (k + 1) * MS, r) for k, r in enumerate(reports)])
    return found


def test_an_order_of_which_nothing_was_said_works_whole():
    found = one()
    assert (found.state, found.filled, found.left) == (OrderState.WORKING, 0.0, 2.0)
    assert (found.average_price, found.ended_ms) == (None, None)


def test_parts_that_were_filled_have_one_average_price_and_leave_the_rest():
    found = one(
        [report(ReportKind.FILL, 0.5, 1.5, 0, 100.0, fee=0.1), report(ReportKind.FILL, 1.0, 0.5, 1, 103.0, fee=0.2)]
    )
    assert (found.state, found.filled, found.left) == (OrderState.WORKING, 1.5, 0.5)
    assert found.average_price == pytest.approx(102.0)
    assert found.fees == pytest.approx(0.3)


def test_the_last_part_ends_it():
    found = one(
        [report(ReportKind.FILL, -0.5, -1.5, 0, 100.0), report(ReportKind.FILL, -1.5, 0.0, 1, 100.0)], quantity=-2.0
    )
    assert (found.state, found.filled, found.left, found.ended_ms) == (OrderState.FILLED, -2.0, 0.0, 2.0)


def test_a_report_that_comes_again_counts_once_and_one_out_of_order_in_its_place():
    half = report(ReportKind.FILL, 1.0, 1.0, 0, 100.0)
    found = one([half, half])
    assert (found.state, found.filled) == (OrderState.WORKING, 1.0)
    rest = report(ReportKind.FILL, 1.0, 0.0, 1, 102.0)
    assert one([rest, half, half]).average_price == pytest.approx(101.0)


@pytest.mark.parametrize(
    ("kind", "state"), [(ReportKind.REJECT, OrderState.REJECTED), (ReportKind.CANCEL, OrderState.CANCELLED)]
)
def test_what_the_broker_refused_or_ended_says_why_and_leaves_nothing(kind, state):
    found = one([report(ReportKind.FILL, 0.5, 1.5, 0, 100.0), report(kind, sequence=1, reason="too late")])
    assert (found.state, found.filled, found.left, found.reason) == (state, 0.5, 0.0, "too late")


def test_what_the_desk_wants_nothing_more_of_is_told_until_it_has_ended():
    assert one(cancels=[cancel()]).state is OrderState.CANCELLING
    assert one(cancels=[cancel("t-0-2")]).state is OrderState.WORKING
    ended = one([report(ReportKind.FILL, 2.0, 0.0, 0, 100.0)], [cancel()])
    assert ended.state is OrderState.FILLED


def test_reports_of_other_orders_are_not_of_this_one():
    assert one([report(ReportKind.FILL, 2.0, 0.0, 0, 100.0, name="t-0-2")]).filled == 0.0
