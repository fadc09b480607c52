"""`price_increment`: what it denies, clips and lets pass."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.rules import ACCEPT, traded


def test_price_increment():
    made = traded(price_increment=0.05)
    assert made.judge(1.0, price=100.05).outcome is ACCEPT
    assert made.judge(1.0, price=100.06).broken == ("price_increment",)
    assert made.judge(1.0, limit_price=100.07).broken == ("price_increment",)


@pytest.mark.parametrize(
    ("step", "price"),
    [("0.000001", "100000.123456"), ("0.01", "98765.43"), ("0.25", "4500.75"), ("1e-8", "0.00001234")],
)
def test_a_multiple_is_one_however_small_the_increment_is_against_the_price(step, price):
    made = traded(float(price), price_increment=float(step), price_collar=None)
    one, half = Decimal(price), Decimal(price) + Decimal(step) / 2
    for multiple in (one, one + Decimal(step), one - Decimal(step), one * 3):
        assert made.judge(1.0, price=float(multiple)).outcome is ACCEPT, multiple
    assert made.judge(1.0, price=float(half)).broken == ("price_increment",)


@given(st.integers(1, 10**9), st.sampled_from(["0.01", "0.05", "0.25", "0.00001", "0.1", "0.3", "7"]))
def test_every_decimal_multiple_passes_and_half_of_one_does_not(count, step):
    made = traded(100.0, price_increment=float(step), price_collar=None, max_order_notional=None)
    assert made.judge(0.001, price=float(Decimal(step) * count)).outcome is ACCEPT
    odd = Decimal(step) * count + Decimal(step) / 2
    assert made.judge(0.001, price=float(odd)).broken == ("price_increment",)


def test_where_numbers_cannot_tell_multiples_apart_nothing_is_one():
    made = traded(1e12, price_increment=1e-6, price_collar=None, max_order_notional=None)
    assert made.judge(0.001, price=1e12).broken == ("price_increment",)
