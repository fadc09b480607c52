"""Targets become orders at the right price, and only when they are worth it."""

from __future__ import annotations

import math

import pytest

from gateway.domain.decision import DecisionPolicy, Market, decide
from gateway.domain.position import Book
from gateway.domain.risk import Limits
from gateway.domain.risk.assess import round_to_lot
from gateway.domain.schemas import Action, Outcome, Reason, TradingState

POLICY = DecisionPolicy(limits=Limits(max_order_notional=1e6), lot=0.01, rebalance_band=0.05)
MARKET = Market(bid=99.0, ask=101.0, last=100.0, mid=100.0)


def act(target, *, book=None, market=MARKET, warm=True, age_ns=0, policy=POLICY):
    return decide("A", target, warm, market, age_ns, book or Book(), TradingState.ACTIVE, policy)


def test_a_target_becomes_an_order_for_the_difference():
    book = Book()
    book.set_quantity("A", 100.0)
    book.mark("A", 100.0)
    judged = act(0.5, book=book)
    assert (judged.action, judged.quantity) == (Action.BUY, 400.0)
    assert judged.reason is Reason.TARGET


def test_buys_are_judged_at_the_ask_and_sells_at_the_bid():
    assert act(0.5).reference_price == 101.0
    assert act(-0.5).reference_price == 99.0


def test_a_source_without_quotes_is_judged_at_its_latest_trade():
    market = Market(bid=math.nan, ask=math.nan, last=100.0, mid=100.0)
    assert act(0.5, market=market).reference_price == 100.0


def test_one_missing_side_of_the_quote_denies_the_order_that_needs_it():
    market = Market(bid=99.0, ask=math.nan, last=100.0, mid=100.0)
    judged = act(0.5, market=market)
    assert judged.reason is Reason.DENIED
    assert judged.verdict is not None
    assert judged.verdict.outcome is Outcome.DENY


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"warm": False}, Reason.WARMING_UP),
        ({"market": Market(math.nan, math.nan, math.nan, math.nan)}, Reason.NO_PRICE),
        ({"target": 0.04}, Reason.WITHIN_BAND),
        ({"age_ns": 10**12}, Reason.DENIED),
    ],
)
def test_holds_say_why(changes, reason):
    judged = act(changes.pop("target", 0.5), **changes)
    assert judged.action is Action.HOLD
    assert judged.quantity == 0.0
    assert judged.reason is reason


def test_a_position_without_a_mark_elsewhere_fails_closed():
    book = Book()
    book.set_quantity("B", 1.0)
    judged = act(0.5, book=book)
    assert judged.reason is Reason.DENIED
    assert judged.verdict is not None
    assert "gross_exposure" in judged.verdict.broken


def test_a_clipped_order_is_traded_at_its_clipped_size():
    policy = DecisionPolicy(limits=Limits(max_order_notional=10_100.0), lot=0.01)
    judged = act(0.5, policy=policy)
    assert (judged.action, judged.quantity) == (Action.BUY, 100.0)
    assert judged.verdict is not None
    assert judged.verdict.outcome is Outcome.CLIP


def test_deciding_does_not_change_the_book():
    book = Book()
    act(0.5, book=book)
    assert book.positions() == {}


@pytest.mark.parametrize(
    ("quantity", "lot", "wanted"),
    [(1.2345, 0.001, 1.234), (-1.2399, 0.01, -1.23), (0.3, 0.1, 0.3), (0.0009, 0.001, 0.0)],
)
def test_lots_round_toward_zero(quantity, lot, wanted):
    assert round_to_lot(quantity, lot) == wanted


def test_the_book_adds_gross_exposure_of_the_others():
    book = Book()
    for symbol, quantity in (("A", 2.0), ("B", -3.0)):
        book.set_quantity(symbol, quantity)
        book.mark(symbol, 10.0)
    assert book.gross_exposure() == 50.0
    assert book.gross_exposure(without="A") == 30.0
    book.set_quantity("B", 0.0)
    assert book.positions() == {"A": 2.0}
