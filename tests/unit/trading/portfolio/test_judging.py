"""One order judged outside of a gateway: what callers give is what rules see."""

from __future__ import annotations

import math

import pytest

from trading.portfolio.judging import judge_order
from trading.risk.limits import LimitSet
from trading.risk.trading_state import TradingState
from trading.risk.verdict import Outcome


def test_whole_numbers_are_numbers():
    found = judge_order("X", 10, 100, position=3)
    assert found.outcome is Outcome.ACCEPT
    assert found.quantity == 10.0


@pytest.mark.parametrize("price", [None, math.nan, math.inf, -1.0, 0.0])
def test_a_price_that_is_none_is_denied(price):
    found = judge_order("X", 10.0, price)
    assert found.outcome is Outcome.DENY
    assert "valid_values" in found.broken


def test_what_is_held_before_counts():
    most = LimitSet().of("X").max_position_notional
    assert judge_order("X", 1.0, 100.0, position=most / 100.0).outcome is not Outcome.ACCEPT
    assert judge_order("X", -1.0, 100.0, position=most / 100.0).outcome is Outcome.ACCEPT


def test_a_desk_that_is_halted_denies_and_old_data_too():
    assert "trading_state" in judge_order("X", 1.0, 100.0, state=TradingState.HALTED).broken
    for age_s in (3600.0, math.nan, math.inf, -math.inf, 1e300, -3600.0):
        assert "stale_data" in judge_order("X", 1.0, 100.0, age_s=age_s).broken
