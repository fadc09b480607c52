"""Each rule can fire, fails closed, clips where it can, and never blocks an exit that cures it."""

from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.risk import RULES, Intent, Limits, assess
from gateway.domain.schemas import Outcome, TradingState

LOT = 0.001
LIMITS = Limits(
    max_order_quantity=100,
    max_order_notional=5_000,
    max_position_notional=10_000,
    max_gross_notional=20_000,
    max_staleness_ns=1_000,
)
GOOD = Intent(
    symbol="A",
    quantity=10.0,
    position=0.0,
    bid=99.0,
    ask=100.0,
    reference_price=100.0,
    age_ns=0,
    gross_without=0.0,
    trading_state=TradingState.ACTIVE,
)


def judge(limits=LIMITS, **changes):
    return assess(msgspec.structs.replace(GOOD, **changes), limits, LOT)


def test_an_ordinary_order_passes_every_rule_and_records_all():
    verdict = judge()
    assert verdict.outcome is Outcome.ACCEPT
    assert verdict.quantity == 10.0
    assert [r.rule for r in verdict.results] == list(RULES)
    assert all(r.passed for r in verdict.results)


@pytest.mark.parametrize(
    ("rule", "changes"),
    [
        ("valid_values", {"reference_price": math.nan}),
        ("valid_values", {"reference_price": -1.0}),
        ("valid_values", {"bid": 101.0, "ask": 100.0}),
        ("valid_values", {"quantity": math.inf}),
        ("stale_data", {"age_ns": 1_001}),
        ("order_size", {"quantity": 101.0, "reference_price": 1.0, "bid": 1.0, "ask": 1.0}),
        ("order_notional", {"quantity": 51.0}),
        ("position_limit", {"quantity": 1.0, "position": 100.0}),
        ("gross_exposure", {"gross_without": 19_500.0}),
        ("trading_state", {"trading_state": TradingState.HALTED}),
        ("trading_state", {"trading_state": TradingState.REDUCING}),
    ],
)
def test_each_rule_fires(rule, changes):
    assert rule in judge(**changes).broken


@pytest.mark.parametrize("field", ["quantity", "position", "reference_price", "gross_without"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_denies(field, value):
    assert judge(**{field: value}).outcome is Outcome.DENY


@pytest.mark.parametrize(
    "name", ["max_order_quantity", "max_order_notional", "max_position_notional", "max_gross_notional"]
)
def test_a_limit_that_is_not_a_number_denies(name):
    assert judge(limits=msgspec.structs.replace(LIMITS, **{name: math.nan})).outcome is Outcome.DENY


def test_no_known_price_denies_a_market_order():
    verdict = judge(bid=math.nan, ask=math.nan, reference_price=math.nan)
    assert verdict.outcome is Outcome.DENY
    assert {"valid_values", "order_notional", "position_limit", "gross_exposure"} <= set(verdict.broken)


def test_limits_clip_to_the_largest_size_that_passes_all():
    verdict = judge(quantity=80.0)
    assert verdict.outcome is Outcome.CLIP
    assert verdict.quantity == 50.0
    assert verdict.broken == ("order_notional",)
    assert judge(quantity=-80.0).quantity == -50.0


def test_the_tightest_of_several_limits_decides():
    verdict = judge(quantity=80.0, position=70.0)
    assert verdict.quantity == 30.0
    assert set(verdict.broken) == {"order_notional", "position_limit"}


def test_headroom_is_limit_minus_value():
    result = next(r for r in judge(quantity=51.0).results if r.rule == "order_notional")
    assert (result.value, result.limit, result.headroom) == (5_100.0, 5_000.0, -100.0)


def test_stale_cannot_be_clipped_away():
    assert judge(age_ns=5_000, quantity=80.0).outcome is Outcome.DENY


def test_reducing_does_not_let_a_long_position_flip_short():
    verdict = judge(position=1.0, quantity=-10.0, trading_state=TradingState.REDUCING)
    assert verdict.outcome is Outcome.CLIP
    assert verdict.quantity == -1.0


def test_reducing_lets_a_position_shrink_and_not_grow():
    assert judge(position=5.0, quantity=-2.0, trading_state=TradingState.REDUCING).outcome is Outcome.ACCEPT
    assert judge(position=-5.0, quantity=-2.0, trading_state=TradingState.REDUCING).outcome is Outcome.DENY


def test_halted_denies_exits_unless_they_are_configured():
    exit_order = {"position": 5.0, "quantity": -5.0, "trading_state": TradingState.HALTED}
    assert judge(**exit_order).outcome is Outcome.DENY
    allowed = msgspec.structs.replace(LIMITS, halted_allows_exits=True)
    assert judge(limits=allowed, **exit_order).outcome is Outcome.ACCEPT
    assert judge(limits=allowed, trading_state=TradingState.HALTED).outcome is Outcome.DENY


def test_exits_pass_limits_that_the_position_itself_breaks():
    # 500 units at 100 are five times the position limit; selling 10 must be possible.
    verdict = judge(position=500.0, quantity=-10.0, gross_without=100_000.0)
    assert verdict.outcome is Outcome.ACCEPT


@pytest.mark.parametrize("gross", [50_000.0, math.nan])
def test_a_flip_may_at_least_close_the_position_whatever_the_others_are(gross):
    verdict = judge(position=10.0, quantity=-20.0, gross_without=gross)
    assert verdict.outcome is Outcome.CLIP
    assert verdict.quantity == -10.0


@given(
    quantity=st.floats(-1e4, 1e4),
    position=st.floats(-1e3, 1e3),
    price=st.floats(0.01, 1e4),
    gross=st.floats(0, 1e5),
    state=st.sampled_from(TradingState),
)
def test_what_is_allowed_breaks_no_rule_itself(quantity, position, price, gross, state):
    verdict = judge(
        quantity=quantity, position=position, reference_price=price, bid=price, ask=price,
        gross_without=gross, trading_state=state,
    )  # fmt: skip
    if verdict.outcome is Outcome.DENY:
        assert verdict.quantity == 0.0
        return
    assert 0 < abs(verdict.quantity) <= abs(quantity)
    assert math.copysign(1, verdict.quantity) == math.copysign(1, quantity)
    allowed = msgspec.structs.replace(
        GOOD, quantity=verdict.quantity, position=position, reference_price=price, bid=price, ask=price,
        gross_without=gross, trading_state=state,
    )  # fmt: skip
    assert all(rule(allowed, LIMITS).result.passed for rule in RULES.values())


@given(st.integers(0, 10**9), st.integers(0, 10**9))
def test_staleness_is_monotonic(a, b):
    younger, older = sorted((a, b))
    if judge(age_ns=younger).outcome is Outcome.DENY:
        assert judge(age_ns=older).outcome is Outcome.DENY
