"""All rules together: recorded, clipped, never in the way of an exit that cures."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.rules import ACCEPT, CLIP, DENY, traded
from tests.traded_book import SECOND, TradedBook, result
from trading.risk import engine, rules
from trading.risk.limits import Limits, LimitSet, LimitsFile
from trading.risk.trading_state import ACTIVE, REDUCING

# ---- all of them ------------------------------------------------------------------------------


def test_every_rule_that_is_on_is_recorded_in_order_with_its_headroom():
    verdict = traded(
        price_increment=0.01, min_quantity=0.1, max_order_quantity=100.0, max_order_notional=5e4, price_collar=0.05,
        max_staleness_s=5.0, duplicate_window_s=1.0, max_symbol_orders=5, max_orders=9, max_same_way_executions=3,
        restricted=False, max_concentration=0.5, max_gross_notional=1e6, max_net_notional=1e6, max_leverage=2.0,
        max_drawdown=0.1, max_daily_loss=1e4, cooldown_losses=2, max_desk_notional=1e6,
    ).judge(10.0, desk_quota=5_000.0)  # fmt: skip
    names = [r.rule for r in verdict.results]
    assert names == [n for n in rules.NAMES if n in names]
    assert set(rules.NAMES) - set(names) == {"restricted_list", "long_only", "value_at_risk"}
    assert verdict.outcome is ACCEPT
    numbered = [r for r in verdict.results if r.value is not None]
    assert len(numbered) == 16
    assert all(r.headroom == r.limit - r.value for r in numbered)


def test_the_tightest_of_several_limits_decides():
    made = traded(max_order_notional=5_000.0, max_position_notional=10_000.0)
    made.hold(70.0)
    verdict = made.judge(80.0)
    assert (verdict.outcome, verdict.quantity) == (CLIP, 30.0)
    assert set(verdict.broken) == {"order_notional", "position_limit"}


def test_what_no_size_cures_is_not_clipped():
    assert traded(max_order_quantity=5.0, max_staleness_s=1.0).judge(10.0, age_ns=2 * SECOND).outcome is DENY


@settings(max_examples=200, deadline=None)
@given(
    quantity=st.floats(-500, 500).filter(lambda q: abs(q) > 0.01),
    held=st.integers(-200, 200),
    other=st.integers(-200, 200),
    price=st.floats(1.0, 500.0),
    state=st.sampled_from([ACTIVE, REDUCING]),
)
def test_a_clipped_order_breaks_nothing_and_a_lot_more_would(quantity, held, other, price, state):
    made = TradedBook(
        max_order_notional=20_000.0, max_position_notional=30_000.0, max_gross_notional=45_000.0, capital=60_000.0,
        max_net_notional=25_000.0, max_leverage=0.7, max_concentration=0.4, lot=0.5,
    )  # fmt: skip
    made.tick(price)
    for symbol, units in (("A", held), ("B", other)):
        if units:
            made.hold(units / 2, price, symbol)
    quantity = engine.round_to_lot(quantity, 0.5)
    if quantity == 0.0:
        return
    verdict = made.judge(quantity, state=state)
    assert abs(verdict.quantity) <= abs(quantity)
    assert verdict.quantity * quantity >= 0.0
    if verdict.outcome is not DENY:
        assert made.judge(verdict.quantity, state=state).outcome is ACCEPT
    if verdict.outcome is CLIP:
        assert made.judge(verdict.quantity + math.copysign(0.5, quantity), state=state).outcome is not ACCEPT


@pytest.mark.parametrize(
    "name",
    sorted(
        {"max_gross_notional", "max_net_notional", "max_leverage", "max_concentration", "max_drawdown",
         "max_daily_loss", "max_desk_notional", "max_value_at_risk"}
    ),
)  # fmt: skip
def test_a_position_that_cannot_be_valued_denies_what_counts_it(name):
    limit = 0.5 if name in {"max_drawdown", "max_concentration"} else 1e6
    made = traded(symbols={"B": {"currency": "EUR"}}, **{name: limit})
    assert made.judge(1.0, desk_quota=1e6).outcome is (DENY if name == "max_value_at_risk" else ACCEPT)
    made.hold(1.0, 100.0, "B")
    verdict = made.judge(1.0, desk_quota=1e6)
    assert verdict.outcome is DENY
    assert len(verdict.broken) == 1
    # And what only leaves a position goes through: that cures it.
    made.hold(2.0)
    assert made.judge(-1.0, desk_quota=1e6).outcome is ACCEPT


@pytest.mark.parametrize(
    ("limit", "units", "rule"),
    [
        ({"max_order_quantity": 10.0}, 10.0, "order_size"),
        ({"max_order_notional": 1_000.0}, 10.0, "order_notional"),
        ({"max_position_notional": 1_000.0}, 10.0, "position_limit"),
        ({"max_gross_notional": 1_000.0}, 10.0, "gross_exposure"),
        ({"max_net_notional": 1_000.0}, 10.0, "net_exposure"),
        ({"max_leverage": 0.5, "capital": 2_000.0}, 10.0, "leverage"),
        ({"max_concentration": 0.5, "capital": 2_000.0}, 10.0, "concentration"),
        ({"max_desk_notional": 1e9}, 10.0, "desk_exposure"),
    ],
)
@pytest.mark.parametrize("side", [1.0, -1.0])
def test_sizes_pass_at_the_limit_and_are_clipped_to_it_beyond(limit, units, rule, side):
    made = traded(**limit)
    at = made.judge(side * units, desk_quota=1_000.0)
    assert (at.outcome, result(at, rule).headroom) == (ACCEPT, 0.0)
    over = made.judge(side * (units + 0.001), desk_quota=1_000.0)
    assert (over.outcome, over.quantity, over.broken) == (CLIP, side * units, (rule,))
    assert result(over, rule).headroom < 0.0


def test_exits_are_never_blocked_by_what_they_would_cure():
    made = traded(
        max_position_notional=1_000.0, max_gross_notional=1_000.0, max_net_notional=1_000.0, max_leverage=0.5,
        max_concentration=0.1, capital=10_000.0, max_drawdown=0.01, max_daily_loss=10.0, min_quantity=20.0,
        max_value_at_risk=1.0, max_desk_notional=1.0,
    )  # fmt: skip
    made.hold(50.0)
    made.tick(90.0)
    assert made.judge(-10.0, desk_quota=math.nan).outcome is ACCEPT
    assert len(made.judge(20.0, desk_quota=math.nan).broken) == 9


@pytest.mark.parametrize("other", [50_000.0, math.nan])
def test_a_flip_may_at_least_close_the_position_whatever_the_others_are(other):
    made = traded(max_gross_notional=20_000.0, symbols={"B": {"currency": "EUR"}}, rates={"EUR": 1.0})
    made.hold(10.0)
    if math.isnan(other):
        made.book.position("B").rate = math.nan
    made.hold(500.0, 100.0, "B")
    verdict = made.judge(-20.0)
    assert (verdict.outcome, verdict.quantity) == (CLIP, -10.0)


def test_a_limit_price_worse_than_the_touch_is_what_an_order_may_cost():
    made = traded(max_order_notional=1_000.0)
    assert made.judge(10.0, limit_price=100.0).outcome is ACCEPT
    assert made.judge(10.0, limit_price=110.0).quantity == 9.09
    assert made.judge(10.0, limit_price=90.0).outcome is ACCEPT
    assert made.judge(-10.0, limit_price=110.0).outcome is ACCEPT
    assert made.judge(-10.0, limit_price=90.0).outcome is ACCEPT


def test_the_others_are_counted_without_this_line_even_when_it_has_no_price():
    made = TradedBook(max_gross_notional=1_000.0, symbols={"E": {"currency": "EUR"}}, rates={"EUR": 1.0})
    made.hold(4.0, 100.0, "B")
    made.hold(2.0, 100.0, "E")
    assert result(made.judge(1.0, "E"), "gross_exposure").value == 700.0
    assert result(made.judge(1.0, "B"), "gross_exposure").value == 700.0
    made.book.set_limits(
        LimitSet(LimitsFile(defaults=made.book.limits.file.defaults, symbols={"E": {"currency": "EUR"}}))
    )
    verdict = made.judge(1.0, "B")  # the rate is gone: E cannot be valued
    assert (result(verdict, "gross_exposure").value, verdict.outcome) == (None, DENY)
    assert math.isnan(made.book.equity)
    assert result(made.judge(1.0, "E"), "gross_exposure").value is None


@pytest.mark.parametrize(
    ("quantity", "lot", "wanted"),
    [(1.2345, 0.001, 1.234), (-1.2399, 0.01, -1.23), (0.3, 0.1, 0.3), (0.0009, 0.001, 0.0), (-7.0, 2.0, -6.0),
     (3e11, 1.0, 3e11)],
)  # fmt: skip
def test_lots_round_toward_zero(quantity, lot, wanted):
    assert engine.round_to_lot(quantity, lot) == wanted


@pytest.mark.parametrize(
    ("quantity", "wanted"),
    [(0.1 + 0.2, 0.3), (-(0.1 + 0.2), -0.3), (1e9 + 0.1, 1e9 + 0.1), (-1e17, -1e17), (0.0, 0.0), (5e-11, 1e-10)],
)
def test_quantities_are_tidied_to_ten_decimals_where_a_double_has_them(quantity, wanted):
    assert engine.round_quantity(quantity) == wanted


@pytest.mark.parametrize("side", [1.0, -1.0])
@pytest.mark.parametrize(
    ("limits", "rule", "room"),
    [
        ({"max_gross_notional": 1_000.0}, "gross_exposure", 6.0),
        ({"max_desk_notional": 1e9}, "desk_exposure", 6.0),
        ({"max_leverage": 0.5, "capital": 2_000.0}, "leverage", 6.0),
        # 400 elsewhere: 400 here are a half of 800; of the equity it would be 200.
        ({"max_concentration": 0.5, "capital": 400.0}, "concentration", 4.0),
        # 400 elsewhere, and a quarter of an equity of 2,000.
        ({"max_concentration": 0.25, "capital": 2_000.0}, "concentration", 5.0),
    ],
)
def test_what_the_others_hold_is_not_left_for_this_one(limits, rule, room, side):
    made = traded(**limits)
    made.hold(-4.0, 100.0, "B")
    assert made.judge(side * room, desk_quota=1_000.0).outcome is ACCEPT
    over = made.judge(side * (room + 2.0), desk_quota=1_000.0)
    assert (over.outcome, over.quantity, over.broken) == (CLIP, side * room, (rule,))


@pytest.mark.parametrize(
    ("limits", "rule"),
    [
        ({"max_order_notional": 5.0}, "order_notional"),
        ({"max_position_notional": 5.0}, "position_limit"),
        ({"max_gross_notional": 5.0}, "gross_exposure"),
        ({"max_net_notional": 5.0}, "net_exposure"),
        ({"max_leverage": 0.5, "capital": 10.0}, "leverage"),
        ({"max_concentration": 0.5, "capital": 10.0}, "concentration"),
        ({"max_desk_notional": 1e9}, "desk_exposure"),
    ],
)
def test_sizes_are_clipped_at_prices_below_one_too(limits, rule):
    over = traded(price=0.5, **limits).judge(10.5, desk_quota=5.0)
    assert (over.outcome, over.quantity, over.broken) == (CLIP, 10.0, (rule,))


def test_where_a_division_came_out_a_last_place_too_large_a_lot_less_is_traded():
    made = traded(price=0.1, lot=1.0, max_order_notional=0.3)  # 3 x 0.1 is 0.30000000000000004
    verdict = made.judge(5.0)
    assert (verdict.outcome, verdict.quantity) == (CLIP, 2.0)
    assert made.judge(-5.0).quantity == -2.0


def test_prices_below_one_are_prices():
    made = traded(price=0.25, price_collar=0.5, price_increment=0.01, max_order_notional=10.0)
    assert made.judge(40.0).outcome is ACCEPT
    assert made.judge(40.0, limit_price=0.3).quantity == 33.333
    assert made.judge(0.5).outcome is ACCEPT
    assert made.judge(1.0, limit_price=0.0).broken == ("valid_values", "price_collar")


def test_rates_tell_how_many_orders_there_would_be():
    made = traded(max_symbol_orders=3, max_orders=4)
    verdict = made.judge(1.0)
    assert (result(verdict, "order_rate").value, result(verdict, "order_rate_symbol").value) == (1.0, 1.0)
    made.hold(1.0)
    made.hold(1.0, 100.0, "B")
    verdict = made.judge(1.0)
    assert (result(verdict, "order_rate").value, result(verdict, "order_rate_symbol").value) == (3.0, 2.0)


def test_the_default_limits_are_on_where_a_desk_needs_them():
    limits = Limits()
    assert None not in {limits.max_order_notional, limits.price_collar, limits.max_staleness_s, limits.max_drawdown,
                        limits.max_concentration, limits.max_gross_notional, limits.max_leverage}  # fmt: skip
