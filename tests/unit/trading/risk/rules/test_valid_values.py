"""`valid_values`: what it denies, clips and lets pass."""

from __future__ import annotations

import math

import pytest

from tests.rules import ACCEPT, DENY, beyond, traded


@pytest.mark.parametrize("field", ["quantity", "price", "limit_price"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 0.0])
def test_what_is_no_number_denies(field, value):
    if field == "limit_price" and math.isnan(value):
        return  # there is none
    given = {"quantity": 1.0, field: value}
    made = traded(max_order_notional=1e4, max_gross_notional=1e4)
    assert made.judge(given.pop("quantity"), **given).outcome is DENY


# ---- boundaries, rule by rule -----------------------------------------------------------------


def test_valid_values_crossed_quote_and_unknown_rate():
    made = traded(symbols={"E": {"currency": "EUR"}})
    assert made.judge(1.0, bid=100.0, ask=100.0).outcome is ACCEPT
    assert made.judge(1.0, bid=beyond(100.0), ask=100.0).broken == ("valid_values",)
    assert made.judge(1.0, bid=math.nan).outcome is ACCEPT
    made.tick(5.0, "E")
    assert "valid_values" in made.judge(1.0, "E").broken


# ---- defects of others, see FIELD.md ----------------------------------------------------------


def test_nautilus_lets_a_market_order_pass_when_no_quote_is_known():
    made = traded(max_order_notional=1e6, max_gross_notional=1e6)
    nothing = {"price": math.nan, "bid": math.nan, "ask": math.nan, "mid": math.nan}
    verdict = made.judge(1.0, **nothing)
    assert verdict.outcome is DENY
    assert {"valid_values", "order_notional", "position_limit", "gross_exposure"} <= set(verdict.broken)
