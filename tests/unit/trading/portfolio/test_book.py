"""Fills, fees, currencies and reports, against what they must amount to."""

from __future__ import annotations

import math

import pytest

from tests.rules import ACCEPT, traded
from trading.events import ReportKind
from trading.risk.limits import LimitSet, LimitsFile


def test_a_report_of_the_other_side_is_not_of_this_order():
    made = traded()
    buy = made.work(5.0)
    made.report(buy, ReportKind.FILL, -2.0, 100.0)
    assert (made.book.quantity("A"), made.book.position("A").buying) == (-2.0, 5.0)


@pytest.mark.parametrize("gain", [5.0, -5.0])
def test_money_earned_in_a_currency_without_a_rate_is_not_known(gain):
    made = traded(symbols={"E": {"currency": "EUR"}}, rates={"EUR": 2.0}, max_drawdown=0.5)
    made.hold(1.0, 100.0, "E")
    made.hold(-1.0, 100.0 + gain, "E")
    assert made.book.equity == 1e6 + 2.0 * gain
    made.book.set_limits(
        LimitSet(LimitsFile(defaults=made.book.limits.file.defaults, symbols={"E": {"currency": "EUR"}}))
    )
    assert math.isnan(made.book.equity)
    assert made.judge(1.0).broken == ("drawdown",)


# ---- money ------------------------------------------------------------------------------------


def test_money_of_other_currencies_is_converted():
    made = traded(symbols={"E": {"currency": "EUR"}}, rates={"EUR": 1.25}, max_order_notional=1_000.0)
    made.tick(100.0, "E")
    assert made.judge(8.0, "E").outcome is ACCEPT
    assert made.judge(9.0, "E").quantity == 8.0
    made.hold(8.0, 100.0, "E")
    made.tick(110.0, "E")
    assert made.book.equity == pytest.approx(1e6 + 80.0 * 1.25)
    assert made.book.gross == pytest.approx(8 * 110 * 1.25)


def test_fees_and_partial_fills_and_rejects():
    made = traded(capital=1_000.0)
    buy = made.work(5.0)
    made.report(buy, ReportKind.FILL, 2.0, 101.0, 0.5)
    position = made.book.position("A")
    assert (position.quantity, position.buying, position.average_price) == (2.0, 3.0, 101.0)
    made.report(buy, ReportKind.CANCEL)
    assert (position.buying, len(made.book.working)) == (0.0, 0)
    assert made.book.equity == pytest.approx(1_000.0 - 2.0 - 0.5)
    sell = made.work(-2.0)
    made.report(sell, ReportKind.REJECT)
    assert (position.selling, position.quantity) == (0.0, 2.0)
    made.report(buy, ReportKind.FILL, 1.0, 100.0)  # after its cancel: it was traded all the same
    assert (position.quantity, position.buying) == (3.0, 0.0)
    assert made.book.tables.account[0].fees == 0.5


def test_a_book_grows_with_its_symbols():
    made = traded(max_gross_notional=1e6)
    for k in range(100):
        made.tick(100.0 + k, f"S{k}")
        made.hold(1.0, symbol=f"S{k}")
        assert made.judge(1.0, f"N{k}", price=1.0).outcome is ACCEPT
    assert made.book.gross == sum(100.0 + k for k in range(100))
    assert made.book.position("S3").mark == 103.0
    assert len(made.book.symbols) == 201


def test_a_report_that_comes_again_is_not_taken_again():
    made = traded()
    buy = made.work(5.0)
    for sequence in (0, 0, 1, 0, 1):
        made.report(buy, ReportKind.FILL, 2.5, 100.0, sequence=sequence)
    assert made.book.quantity("A") == 5.0
    assert len(made.book.working) == 0
    made.report(
        999, ReportKind.FILL, 1.0, 100.0, sequence=0
    )  # of an order that was never ours: traded all the same
    assert made.book.quantity("A") == 6.0
