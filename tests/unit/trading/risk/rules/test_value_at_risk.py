"""`value_at_risk`: what it denies, clips and lets pass."""

from __future__ import annotations

import math

import pytest

from tests.rules import ACCEPT, CLIP, DENY, MOVES, walk
from tests.traded_book import TradedBook, result
from trading.risk.limits import LimitSet, LimitsFile


@pytest.mark.parametrize("method", ["parametric", "historical"])
def test_value_at_risk_is_what_its_definition_says(method):
    made = TradedBook(max_value_at_risk=1e9, var_method=method, var_confidence=0.8, var_min_bars=5)
    price = walk(made, MOVES)
    value = result(made.judge(10.0), "value_at_risk").value
    money = 10.0 * price
    if method == "historical":
        # A fifth of ten bars may be worse: the third largest loss.
        assert value == pytest.approx(0.01 * money)
    else:
        square = sum(r * r for r in MOVES) / len(MOVES)
        assert value == pytest.approx(0.8416212335729143 * math.sqrt(square) * money)


@pytest.mark.parametrize("method", ["parametric", "historical"])
def test_value_at_risk_counts_the_whole_book_and_clips(method):
    made = TradedBook(max_value_at_risk=30.0, var_method=method, var_confidence=0.9, var_min_bars=5)
    price = walk(made, MOVES)
    made.tick(price, "B")
    for move in MOVES:  # moves against A: a hedge
        made.tick(price * (1 - move), "B", after_s=1.0)
        made.tick(price * (1 + move), after_s=0.0)
        price *= 1 + move
    made.tick(price, after_s=1.0)
    verdict = made.judge(1_000.0)
    assert (verdict.outcome, verdict.broken) == (CLIP, ("value_at_risk",))
    assert 0.0 < verdict.quantity < 1_000.0
    assert result(made.judge(verdict.quantity), "value_at_risk").value <= 30.0
    assert result(made.judge(verdict.quantity + 0.001), "value_at_risk").value > 30.0


def test_value_at_risk_denies_while_it_has_not_seen_enough():
    made = TradedBook(max_value_at_risk=1e9, var_min_bars=11)
    walk(made, MOVES)
    verdict = made.judge(1.0)
    assert (verdict.outcome, verdict.broken, result(verdict, "value_at_risk").value) == (
        DENY,
        ("value_at_risk",),
        None,
    )


def test_bars_of_another_length_tell_nothing():
    made = TradedBook(max_value_at_risk=1e9, var_min_bars=5)
    walk(made, MOVES)
    assert made.judge(1.0).outcome is ACCEPT
    for changes in ({"var_interval_s": 60.0}, {"max_value_at_risk": None}, {"max_value_at_risk": 1e9}):
        made.book.set_limits(LimitSet(LimitsFile(defaults={**made.book.limits.file.defaults, **changes})))
        off = made.book.limits.book.max_value_at_risk is None
        assert made.judge(1.0).outcome is (ACCEPT if off else DENY)
        made.tick(made.marks["A"], after_s=0.5)
        assert made.book.tables.account[0].bars == 0


def test_a_value_at_risk_that_an_order_lowers_passes_whatever_it_is():
    made = TradedBook(max_value_at_risk=1e9, var_min_bars=5, var_confidence=0.9)
    price = walk(made, MOVES)
    made.tick(price, "B")
    for move in MOVES:
        made.tick(made.marks["B"] * (1 + move), "B", after_s=1.0)
        made.tick(made.marks["A"] * (1 + move))
    made.tick(made.marks["A"], after_s=1.0)
    made.hold(100.0)
    defaults = {**made.book.limits.file.defaults, "max_value_at_risk": 5.0}
    made.book.set_limits(LimitSet(LimitsFile(defaults=defaults)))
    assert made.judge(1.0).broken == ("value_at_risk",)
    assert made.judge(1.0).outcome is DENY
    hedge = made.judge(-50.0, "B")  # moves as A does
    assert (hedge.outcome, result(hedge, "value_at_risk").passed) == (ACCEPT, True)
    assert result(hedge, "value_at_risk").value > 5.0
    assert made.judge(50.0, "B").outcome is DENY
    assert made.judge(-100.0).outcome is ACCEPT  # an exit


def test_the_historical_loss_is_never_below_zero():
    made = TradedBook(max_value_at_risk=1e9, var_method="historical", var_confidence=0.9, var_min_bars=5)
    walk(made, [0.01] * 10)
    assert result(made.judge(5.0), "value_at_risk").value == 0.0
    assert result(made.judge(-5.0), "value_at_risk").value > 0.0


def test_value_at_risk_clips_sales_too():
    for method in ("parametric", "historical"):
        made = TradedBook(max_value_at_risk=30.0, var_method=method, var_confidence=0.9, var_min_bars=5)
        walk(made, [0.04, 0.05, -0.01, 0.06, -0.005, 0.03, 0.02, -0.01, 0.05, 0.04])  # short is where it hurts
        verdict = made.judge(-1_000.0)
        assert verdict.outcome is CLIP
        assert result(made.judge(verdict.quantity), "value_at_risk").value <= 30.0
        assert result(made.judge(verdict.quantity - 0.001), "value_at_risk").value > 30.0
