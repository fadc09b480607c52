"""Each rule: its boundary, what it does when blind, and the defects that others have had."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.risk import SECOND, Desk, result
from trading.events import ReportKind
from trading.risk import engine, rules
from trading.risk.calendar import Session
from trading.risk.limits import Limits, LimitSet, LimitsFile
from trading.risk.rate import within_window
from trading.risk.trading_state import ACTIVE, HALTED, KILLED, REDUCING
from trading.risk.verdict import Outcome

ACCEPT, CLIP, DENY = Outcome.ACCEPT, Outcome.CLIP, Outcome.DENY
UP = math.inf


def desk(price=100.0, **limits):
    made = Desk(**limits)
    made.tick(price)
    return made


def beyond(value):
    return math.nextafter(value, UP)


# ---- all of them ------------------------------------------------------------------------------


def test_every_rule_that_is_on_is_recorded_in_order_with_its_headroom():
    verdict = desk(
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
    made = desk(max_order_notional=5_000.0, max_position_notional=10_000.0)
    made.hold(70.0)
    verdict = made.judge(80.0)
    assert (verdict.outcome, verdict.quantity) == (CLIP, 30.0)
    assert set(verdict.broken) == {"order_notional", "position_limit"}


def test_what_no_size_cures_is_not_clipped():
    assert desk(max_order_quantity=5.0, max_staleness_s=1.0).judge(10.0, age_ns=2 * SECOND).outcome is DENY


@settings(max_examples=200, deadline=None)
@given(
    quantity=st.floats(-500, 500).filter(lambda q: abs(q) > 0.01),
    held=st.integers(-200, 200),
    other=st.integers(-200, 200),
    price=st.floats(1.0, 500.0),
    state=st.sampled_from([ACTIVE, REDUCING]),
)
def test_a_clipped_order_breaks_nothing_and_a_lot_more_would(quantity, held, other, price, state):
    made = Desk(
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


@pytest.mark.parametrize("field", ["quantity", "price", "limit_price"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 0.0])
def test_what_is_no_number_denies(field, value):
    if field == "limit_price" and math.isnan(value):
        return  # there is none
    given = {"quantity": 1.0, field: value}
    made = desk(max_order_notional=1e4, max_gross_notional=1e4)
    assert made.judge(given.pop("quantity"), **given).outcome is DENY


@pytest.mark.parametrize(
    "name",
    sorted(
        {"max_gross_notional", "max_net_notional", "max_leverage", "max_concentration", "max_drawdown",
         "max_daily_loss", "max_desk_notional", "max_value_at_risk"}
    ),
)  # fmt: skip
def test_a_position_that_cannot_be_valued_denies_what_counts_it(name):
    limit = 0.5 if name in {"max_drawdown", "max_concentration"} else 1e6
    made = desk(symbols={"B": {"currency": "EUR"}}, **{name: limit})
    assert made.judge(1.0, desk_quota=1e6).outcome is (DENY if name == "max_value_at_risk" else ACCEPT)
    made.hold(1.0, 100.0, "B")
    verdict = made.judge(1.0, desk_quota=1e6)
    assert verdict.outcome is DENY
    assert len(verdict.broken) == 1
    # And what only leaves a position goes through: that cures it.
    made.hold(2.0)
    assert made.judge(-1.0, desk_quota=1e6).outcome is ACCEPT


# ---- boundaries, rule by rule -----------------------------------------------------------------


def test_valid_values_crossed_quote_and_unknown_rate():
    made = desk(symbols={"E": {"currency": "EUR"}})
    assert made.judge(1.0, bid=100.0, ask=100.0).outcome is ACCEPT
    assert made.judge(1.0, bid=beyond(100.0), ask=100.0).broken == ("valid_values",)
    assert made.judge(1.0, bid=math.nan).outcome is ACCEPT
    made.tick(5.0, "E")
    assert "valid_values" in made.judge(1.0, "E").broken


def test_price_increment():
    made = desk(price_increment=0.05)
    assert made.judge(1.0, price=100.05).outcome is ACCEPT
    assert made.judge(1.0, price=100.06).broken == ("price_increment",)
    assert made.judge(1.0, limit_price=100.07).broken == ("price_increment",)


def test_lot_size_clips_down():
    verdict = desk(lot=0.5).judge(1.75)
    assert (verdict.outcome, verdict.quantity, verdict.broken) == (CLIP, 1.5, ("lot_size",))
    assert desk(lot=0.1).judge(0.1 * 3).outcome is ACCEPT  # 0.30000000000000004


def test_minimum_size_spares_exits():
    made = desk(min_quantity=1.0, min_notional=200.0)
    assert made.judge(2.0).outcome is ACCEPT
    assert made.judge(1.999).broken == ("minimum_size",)
    assert desk(min_quantity=1.0).judge(0.999).broken == ("minimum_size",)
    made.hold(0.5)
    assert made.judge(-0.5).outcome is ACCEPT
    assert made.judge(-0.6).broken == ("minimum_size",)


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
    made = desk(**limit)
    at = made.judge(side * units, desk_quota=1_000.0)
    assert (at.outcome, result(at, rule).headroom) == (ACCEPT, 0.0)
    over = made.judge(side * (units + 0.001), desk_quota=1_000.0)
    assert (over.outcome, over.quantity, over.broken) == (CLIP, side * units, (rule,))
    assert result(over, rule).headroom < 0.0


def test_price_collar():
    made = desk(price_collar=0.5)
    assert made.judge(1.0, price=150.0, mid=100.0).outcome is ACCEPT
    assert made.judge(1.0, price=50.0, mid=100.0).outcome is ACCEPT
    assert made.judge(1.0, price=beyond(150.0), mid=100.0).broken == ("price_collar",)
    assert made.judge(1.0, price=100.0, limit_price=151.0, mid=100.0).broken == ("price_collar",)
    assert made.judge(1.0, price=100.0, mid=math.nan).broken == ("price_collar",)
    assert made.judge(1.0, price=100.0, mid=0.0).broken == ("price_collar",)


def test_stale_data():
    made = desk(max_staleness_s=2.0)
    assert made.judge(1.0, age_ns=2 * SECOND).outcome is ACCEPT
    assert made.judge(1.0, age_ns=2 * SECOND + 1000).broken == ("stale_data",)
    assert made.judge(1.0, age_ns=-1).broken == ("stale_data",)


def test_duplicate_orders():
    made = desk(duplicate_window_s=1.0)
    made.hold(2.0)
    assert made.judge(2.0).broken == ("duplicate_order",)
    assert made.judge(2.001).outcome is ACCEPT
    assert made.judge(-2.0).outcome is ACCEPT
    assert made.judge(2.0, price=100.5).outcome is ACCEPT
    assert made.judge(3.0, number=made.book.position("A").last_number).broken == ("duplicate_order",)
    made.tick(100.0, after_s=0.999)
    assert made.judge(2.0).broken == ("duplicate_order",)
    made.tick(100.0, after_s=0.001)
    assert made.judge(2.0).outcome is ACCEPT


def test_order_rate_of_a_symbol_and_of_the_book():
    made = desk(max_symbol_orders=2, max_orders=3, order_window_s=1.0)
    made.hold(1.0)
    assert made.judge(1.0).outcome is ACCEPT
    made.hold(1.0)
    assert made.judge(1.0).broken == ("order_rate_symbol",)
    made.hold(1.0, 100.0, "B")
    assert made.judge(1.0, "B").broken == ("order_rate",)
    made.tick(100.0, after_s=0.5)
    made.tick(100.0, "B")
    assert made.judge(1.0, "B").broken == ("order_rate",)
    made.tick(100.0, after_s=0.5)
    assert made.judge(1.0, "B").outcome is ACCEPT


def test_a_ring_remembers_as_many_orders_as_any_limit_may_name():
    made = desk(max_symbol_orders=64, order_window_s=10.0)
    for k in range(200):
        made.hold(1.0 if k % 2 else -1.0)
    assert result(made.judge(1.0), "order_rate_symbol").value == 65.0


def test_repeated_execution_stops_until_a_human_has_looked():
    made = desk(max_same_way_executions=3)
    for _ in range(2):
        made.hold(1.0)
    assert made.judge(1.0).outcome is ACCEPT
    made.hold(1.0)
    assert made.judge(1.0).broken == ("repeated_execution",)
    assert made.judge(-3.0).outcome is ACCEPT  # an exit
    assert made.judge(-3.001).broken == ("repeated_execution",)
    made.hold(-1.0)
    assert made.judge(1.0).broken == ("repeated_execution",)
    made.book.reset("repeated_execution")
    assert made.judge(1.0).outcome is ACCEPT


def test_restricted_and_long_only_let_positions_be_left():
    made = desk(symbols={"R": {"restricted": True}, "L": {"long_only": True}})
    for symbol, rule in (("R", "restricted_list"), ("L", "long_only")):
        made.hold(2.0, 100.0, symbol)
        assert made.judge(-2.0, symbol).outcome is ACCEPT
        over = made.judge(-3.0, symbol)
        assert (over.outcome, over.quantity, over.broken) == (CLIP, -2.0, (rule,))
    assert made.judge(1.0, "R").broken == ("restricted_list",)
    assert made.judge(1.0, "L").outcome is ACCEPT
    made.work(-1.5, "L")
    assert made.judge(-1.0, "L").quantity == -0.5


def test_session_hours_follow_the_time_zone_with_its_summer_time():
    session = Session(timezone="America/New_York", opens="09:30", closes="16:00", days=("mon", "tue"),
                      holidays=("2024-07-02",))  # fmt: skip
    made = desk(session=session)

    def at(day, hour, minute):  # UTC, of July 2024: New York is four hours behind
        made.now_ns = 1_719_792_000 * SECOND  # 2024-07-01, a Monday
        made.tick(100.0, after_s=((day - 1) * 24 + hour) * 3600 + minute * 60)
        return made.judge(1.0).outcome

    assert [at(1, 13, 29), at(1, 13, 30), at(1, 19, 59), at(1, 20, 0)] == [DENY, ACCEPT, ACCEPT, DENY]
    assert [at(2, 15, 0), at(3, 15, 0), at(8, 15, 0)] == [DENY, DENY, ACCEPT]  # holiday, Wednesday, Monday


def test_a_session_over_midnight_belongs_to_the_day_on_which_it_opened():
    made = desk(session=Session(opens="22:00", closes="02:00", days=("mon",)))
    outcomes = []
    for hours in (9, 10, 13, 14, 33):  # from Monday noon: 21:00, 22:00, 01:00, 02:00, Tuesday 21:00
        made.now_ns = 1_704_110_400 * SECOND
        made.tick(100.0, after_s=hours * 3600)
        outcomes.append(made.judge(1.0).outcome)
    assert outcomes == [DENY, ACCEPT, ACCEPT, DENY, DENY]


def test_concentration_counts_the_others():
    made = desk(max_concentration=0.25, capital=1_000.0)
    made.hold(90.0, 100.0, "B")  # 9,000 elsewhere: 3,000 here are a quarter of 12,000
    assert made.judge(30.0).outcome is ACCEPT
    assert made.judge(31.0).quantity == 30.0


def test_net_exposure_lets_hedges_through():
    made = desk(max_net_notional=500.0)
    made.hold(5.0, 100.0, "B")
    assert made.judge(1.0).broken == ("net_exposure",)
    assert made.judge(-10.0).outcome is ACCEPT
    assert made.judge(-11.0).quantity == -10.0
    made.tick(200.0, "B")  # beyond the limit by itself: what brings it nearer passes
    assert made.judge(-1.0).outcome is ACCEPT


def test_cooldown_pauses_what_its_scope_says_and_for_so_long():
    def lose(made, symbol="A", side=1.0):
        made.hold(side, 100.0, symbol)
        made.hold(-side, 100.0 - side, symbol)

    terms = {"cooldown_losses": 2, "cooldown_window_s": 60.0, "cooldown_s": 30.0}
    for scope, paused in (("symbol", "A+ A-"), ("side", "A+"), ("all", "A+ A- B+ B-")):
        made = desk(**terms, cooldown_scope=scope)
        made.tick(100.0, "B")
        lose(made)
        assert made.judge(1.0).outcome is ACCEPT
        lose(made)
        found = [
            f"{s}{'+' if q > 0 else '-'}" for s in "AB" for q in (1.0, -1.0) if made.judge(q, s).outcome is DENY
        ]
        assert " ".join(found) == paused
        made.tick(100.0, after_s=29.9)
        assert made.judge(1.0).broken == ("cooldown",)
        made.tick(100.0, after_s=0.1)
        assert made.judge(1.0).outcome is ACCEPT
    spread = desk(**terms)
    lose(spread)
    spread.tick(100.0, after_s=60.0)  # the first is too long ago
    lose(spread)
    assert spread.judge(1.0).outcome is ACCEPT
    shorts = desk(**terms, cooldown_scope="side")
    for _ in range(2):
        lose(shorts, side=-1.0)
    assert shorts.judge(-1.0).broken == ("cooldown",)
    assert shorts.judge(1.0).outcome is ACCEPT


def walk(made, returns, price=100.0, symbol="A"):
    made.tick(price, symbol)
    for move in returns:
        price *= 1.0 + move
        made.tick(price, symbol, after_s=1.0)
    made.tick(price, symbol, after_s=1.0)  # ends the last bar
    return price


MOVES = [0.01, -0.02, 0.005, 0.03, -0.01, 0.0, -0.005, 0.02, -0.03, 0.01]


@pytest.mark.parametrize("method", ["parametric", "historical"])
def test_value_at_risk_is_what_its_definition_says(method):
    made = Desk(max_value_at_risk=1e9, var_method=method, var_confidence=0.8, var_min_bars=5)
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
    made = Desk(max_value_at_risk=30.0, var_method=method, var_confidence=0.9, var_min_bars=5)
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
    made = Desk(max_value_at_risk=1e9, var_min_bars=11)
    walk(made, MOVES)
    verdict = made.judge(1.0)
    assert (verdict.outcome, verdict.broken, result(verdict, "value_at_risk").value) == (
        DENY,
        ("value_at_risk",),
        None,
    )


def test_drawdown_and_daily_loss_at_their_limits():
    made = desk(max_drawdown=0.25, max_daily_loss=500.0, capital=1_000.0)
    made.hold(10.0)
    made.tick(75.0)
    assert made.judge(1.0).outcome is ACCEPT
    made.tick(74.99)
    assert made.judge(1.0).broken == ("drawdown",)
    other = desk(max_daily_loss=250.0, capital=1_000.0)
    other.hold(10.0)
    other.tick(75.0)
    assert other.judge(1.0).outcome is ACCEPT
    other.tick(74.99)
    assert other.judge(1.0).broken == ("daily_loss",)
    other.tick(100.0)
    assert other.judge(1.0).broken == ("daily_loss",)  # latched for the day
    assert other.judge(-10.0).outcome is ACCEPT
    other.tick(100.0, after_s=12 * 3600)
    assert other.judge(1.0).outcome is ACCEPT


def test_the_trading_day_begins_where_the_account_is():
    made = desk(session=Session(timezone="Asia/Tokyo", rolls="06:00"), max_daily_loss=100.0, capital=1_000.0)
    made.hold(10.0)
    made.tick(80.0)
    assert made.judge(1.0).broken == ("daily_loss",)
    made.tick(80.0, after_s=9 * 3600 - 1)  # 21:00 in London is 06:00 in Tokyo
    assert made.judge(1.0).broken == ("daily_loss",)
    made.tick(80.0, after_s=1.0)
    assert made.judge(1.0).outcome is ACCEPT


# ---- defects of others, see FIELD.md ----------------------------------------------------------


def test_nautilus_lets_a_market_order_pass_when_no_quote_is_known():
    made = desk(max_order_notional=1e6, max_gross_notional=1e6)
    nothing = {"price": math.nan, "bid": math.nan, "ask": math.nan, "mid": math.nan}
    verdict = made.judge(1.0, **nothing)
    assert verdict.outcome is DENY
    assert {"valid_values", "order_notional", "position_limit", "gross_exposure"} <= set(verdict.broken)


def test_the_reference_of_a_notional_is_the_touch_on_the_orders_far_side():
    made = desk(max_order_notional=1_000.0)
    assert made.judge(10.0, price=101.0, bid=99.0, ask=101.0, mid=100.0).broken == ("order_notional",)
    assert made.judge(-10.0, price=99.0, bid=99.0, ask=101.0, mid=100.0).outcome is ACCEPT


def test_zipline_leaves_working_orders_out_of_the_position_limit():
    made = desk(max_position_notional=1_000.0, max_gross_notional=1_000.0)
    made.work(7.0)
    verdict = made.judge(5.0)
    assert (verdict.outcome, verdict.quantity) == (CLIP, 3.0)
    assert set(verdict.broken) == {"position_limit", "gross_exposure"}
    assert result(verdict, "position_limit").value == 1_200.0


def test_nautilus_throttles_orders_over_all_symbols_only():
    made = desk(max_symbol_orders=1)
    made.hold(1.0)
    assert made.judge(1.0).broken == ("order_rate_symbol",)
    made.tick(100.0, "B")
    assert made.judge(1.0, "B").outcome is ACCEPT


def test_a_naive_staleness_check_never_fires_when_the_receive_clock_is_behind():
    made = Desk(max_staleness_s=1.0)
    behind = int(1.27 * SECOND)  # as in the Binance captures
    for k in range(5):
        event = made.now_ns + k * SECOND
        age = made.book.observe("A", event, 100.0, event - behind + k % 2 * 1_000_000)
        assert age <= 1_000_000
    late = made.now_ns + 5 * SECOND
    age = made.book.observe(
        "A", late, 100.0, late - behind + int(1.1 * SECOND)
    )  # it took 1.1 s: sent - event is -0.17 s
    assert age / SECOND == pytest.approx(1.1, abs=0.01)
    made.marks["A"] = 100.0
    assert made.judge(1.0, age_ns=age).broken == ("stale_data",)


def test_the_clocks_offset_follows_drift_and_no_delay():
    book = Desk().book
    start = 1_704_110_400 * SECOND
    ages = [book.observe("A", start + k * SECOND, 1.0, start + k * SECOND + 50_000 * k) for k in range(600)]
    assert max(ages) == 0  # 50 parts in a million: a clock that drifts
    later = start + 600 * SECOND
    delayed = [book.observe("A", later + k * SECOND, 1.0, later + k * SECOND + 3 * SECOND) for k in range(60)]
    assert min(delayed) > 2.9 * SECOND


def test_nautilus_reducing_looks_at_the_side_only_and_flips():
    made = desk()
    made.hold(1.0)
    verdict = made.judge(-10.0, state=REDUCING)
    assert (verdict.outcome, verdict.quantity) == (CLIP, -1.0)
    assert made.judge(1.0, state=REDUCING).outcome is DENY


def test_reducing_counts_the_exits_that_already_work():
    made = desk()
    made.hold(5.0)
    made.work(-4.0)
    assert made.judge(-3.0, state=REDUCING).quantity == -1.0
    made.work(-1.0)
    assert made.judge(-1.0, state=REDUCING).outcome is DENY


def test_nautilus_halted_blocks_emergency_exits():
    closed, allowed = desk(), desk(halted_allows_exits=True)
    for made in (closed, allowed):
        made.hold(5.0)
    assert closed.judge(-5.0, state=HALTED).outcome is DENY
    assert allowed.judge(-5.0, state=HALTED).outcome is ACCEPT
    assert allowed.judge(-6.0, state=HALTED).quantity == -5.0
    assert allowed.judge(1.0, state=HALTED).outcome is DENY


def test_hummingbots_kill_switch_logs_an_error_and_goes_on():
    made = desk(halted_allows_exits=True)
    made.hold(5.0)
    for state in (KILLED, KILLED + 1, -1):
        assert "kill_switch" in made.judge(-5.0, state=state).broken
        assert made.judge(-5.0, state=state).outcome is DENY


def test_lean_resets_the_drawdowns_baseline_on_a_breach_so_that_the_loss_repeats():
    made = desk(max_drawdown=0.1, capital=10_000.0)
    made.hold(100.0)
    made.tick(89.0)
    assert made.judge(1.0).broken == ("drawdown",)
    account = made.book.tables.account[0]
    assert (account.high_water, bool(account.drawdown_latched)) == (10_000.0, True)
    made.tick(101.0)  # everything is won back, and it stays latched
    assert made.judge(1.0).broken == ("drawdown",)
    assert made.judge(-100.0).outcome is ACCEPT
    made.tick(95.0)
    made.book.reset("drawdown")  # a human: from here the mark begins anew
    assert made.judge(1.0).outcome is ACCEPT
    made.tick(85.0)
    assert made.judge(1.0).broken == ("drawdown",)


def test_a_book_that_has_lost_everything_is_latched_whatever_a_share_of_nothing_is():
    made = desk(max_drawdown=0.2, capital=1_000.0)
    made.hold(10.0)
    made.tick(5.0)
    made.book.reset("drawdown")
    made.book.set_limits(LimitSet(LimitsFile(defaults={**made.book.limits.file.defaults, "capital": 900.0})))
    assert made.book.tables.account[0].high_water == -50.0
    made.tick(4.0)
    verdict = made.judge(1.0)
    assert (verdict.outcome, result(verdict, "drawdown").value) == (DENY, None)
    assert made.judge(-10.0).outcome is ACCEPT


def test_bars_of_another_length_tell_nothing():
    made = Desk(max_value_at_risk=1e9, var_min_bars=5)
    walk(made, MOVES)
    assert made.judge(1.0).outcome is ACCEPT
    for changes in ({"var_interval_s": 60.0}, {"max_value_at_risk": None}, {"max_value_at_risk": 1e9}):
        made.book.set_limits(LimitSet(LimitsFile(defaults={**made.book.limits.file.defaults, **changes})))
        off = made.book.limits.book.max_value_at_risk is None
        assert made.judge(1.0).outcome is (ACCEPT if off else DENY)
        made.tick(made.marks["A"], after_s=0.5)
        assert made.book.tables.account[0].bars == 0


def test_a_report_of_the_other_side_is_not_of_this_order():
    made = desk()
    buy = made.work(5.0)
    made.report(buy, ReportKind.FILL, -2.0, 100.0)
    assert (made.book.quantity("A"), made.book.position("A").buying) == (-2.0, 5.0)


def test_freqtrade_counts_closed_trades_only():
    made = desk(max_drawdown=0.1, max_daily_loss=1_500.0, capital=10_000.0)
    made.hold(100.0)
    made.tick(80.0)  # nothing is closed, a fifth is gone
    assert set(made.judge(1.0).broken) == {"drawdown", "daily_loss"}


def test_exits_are_never_blocked_by_what_they_would_cure():
    made = desk(
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
    made = desk(max_gross_notional=20_000.0, symbols={"B": {"currency": "EUR"}}, rates={"EUR": 1.0})
    made.hold(10.0)
    if math.isnan(other):
        made.book.position("B").rate = math.nan
    made.hold(500.0, 100.0, "B")
    verdict = made.judge(-20.0)
    assert (verdict.outcome, verdict.quantity) == (CLIP, -10.0)


def test_a_limit_price_worse_than_the_touch_is_what_an_order_may_cost():
    made = desk(max_order_notional=1_000.0)
    assert made.judge(10.0, limit_price=100.0).outcome is ACCEPT
    assert made.judge(10.0, limit_price=110.0).quantity == 9.09
    assert made.judge(10.0, limit_price=90.0).outcome is ACCEPT
    assert made.judge(-10.0, limit_price=110.0).outcome is ACCEPT
    assert made.judge(-10.0, limit_price=90.0).outcome is ACCEPT


def test_exposure_is_the_larger_of_what_either_side_could_become():
    made = desk(max_gross_notional=1_000.0)
    made.work(9.0)
    # Selling 5 leaves 5 short at most; the buy that works is still the larger exposure.
    assert result(made.judge(-5.0), "gross_exposure").value == 900.0
    assert result(made.judge(-9.5), "gross_exposure").value == 950.0
    held = desk(max_gross_notional=1_000.0, max_position_notional=1_000.0)
    held.hold(-3.0)
    held.work(-4.0)
    held.work(2.0)
    assert held.book.gross == 700.0
    assert result(held.judge(-1.0), "position_limit").value == 800.0
    over = held.judge(-5.0)
    assert (over.quantity, set(over.broken)) == (-3.0, {"position_limit", "gross_exposure"})
    # Buying 11: the 2 that work and these would make 10 long; 3 shorts come first.
    assert held.judge(11.5).quantity == 11.0
    assert result(held.judge(1.0), "gross_exposure").value == 700.0


def test_the_others_are_counted_without_this_line_even_when_it_has_no_price():
    made = Desk(max_gross_notional=1_000.0, symbols={"E": {"currency": "EUR"}}, rates={"EUR": 1.0})
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


def test_the_run_is_told_and_an_order_of_the_other_side_begins_anew():
    made = desk(max_same_way_executions=5)
    for _ in range(3):
        made.hold(1.0)
    assert result(made.judge(1.0), "repeated_execution").value == 4.0
    assert result(made.judge(-9.0), "repeated_execution").value == 1.0
    made.hold(-9.0)
    assert result(made.judge(-1.0), "repeated_execution").value == 2.0
    for _ in range(4):
        made.hold(-1.0)
    stopped = result(made.judge(1e-3 - 20.0), "repeated_execution")
    assert (stopped.passed, stopped.value) == (False, 6.0)
    flip = result(made.judge(30.0), "repeated_execution")
    assert (flip.passed, flip.value) == (False, 6.0)


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


def test_a_value_at_risk_that_an_order_lowers_passes_whatever_it_is():
    made = Desk(max_value_at_risk=1e9, var_min_bars=5, var_confidence=0.9)
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
    made = Desk(max_value_at_risk=1e9, var_method="historical", var_confidence=0.9, var_min_bars=5)
    walk(made, [0.01] * 10)
    assert result(made.judge(5.0), "value_at_risk").value == 0.0
    assert result(made.judge(-5.0), "value_at_risk").value > 0.0


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
    made = desk(**limits)
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
    over = desk(price=0.5, **limits).judge(10.5, desk_quota=5.0)
    assert (over.outcome, over.quantity, over.broken) == (CLIP, 10.0, (rule,))


def test_where_a_division_came_out_a_last_place_too_large_a_lot_less_is_traded():
    made = desk(price=0.1, lot=1.0, max_order_notional=0.3)  # 3 x 0.1 is 0.30000000000000004
    verdict = made.judge(5.0)
    assert (verdict.outcome, verdict.quantity) == (CLIP, 2.0)
    assert made.judge(-5.0).quantity == -2.0


@pytest.mark.parametrize("gain", [5.0, -5.0])
def test_money_earned_in_a_currency_without_a_rate_is_not_known(gain):
    made = desk(symbols={"E": {"currency": "EUR"}}, rates={"EUR": 2.0}, max_drawdown=0.5)
    made.hold(1.0, 100.0, "E")
    made.hold(-1.0, 100.0 + gain, "E")
    assert made.book.equity == 1e6 + 2.0 * gain
    made.book.set_limits(
        LimitSet(LimitsFile(defaults=made.book.limits.file.defaults, symbols={"E": {"currency": "EUR"}}))
    )
    assert math.isnan(made.book.equity)
    assert made.judge(1.0).broken == ("drawdown",)


def test_net_exposure_clips_on_both_sides():
    made = desk(max_net_notional=1_000.0)
    made.hold(4.0, 100.0, "B")
    assert made.judge(7.0).quantity == 6.0
    assert made.judge(-15.0).quantity == -14.0


def test_value_at_risk_clips_sales_too():
    for method in ("parametric", "historical"):
        made = Desk(max_value_at_risk=30.0, var_method=method, var_confidence=0.9, var_min_bars=5)
        walk(made, [0.04, 0.05, -0.01, 0.06, -0.005, 0.03, 0.02, -0.01, 0.05, 0.04])  # short is where it hurts
        verdict = made.judge(-1_000.0)
        assert verdict.outcome is CLIP
        assert result(made.judge(verdict.quantity), "value_at_risk").value <= 30.0
        assert result(made.judge(verdict.quantity - 0.001), "value_at_risk").value > 30.0


def test_killed_counts_as_halted_for_exits():
    made = desk()
    made.hold(1.0)
    assert set(made.judge(-1.0, state=KILLED).broken) == {"kill_switch", "trading_state"}
    allowed = desk(halted_allows_exits=True)
    allowed.hold(1.0)
    assert allowed.judge(-1.0, state=KILLED).broken == ("kill_switch",)


def test_prices_below_one_are_prices():
    made = desk(price=0.25, price_collar=0.5, price_increment=0.01, max_order_notional=10.0)
    assert made.judge(40.0).outcome is ACCEPT
    assert made.judge(40.0, limit_price=0.3).quantity == 33.333
    assert made.judge(0.5).outcome is ACCEPT
    assert made.judge(1.0, limit_price=0.0).broken == ("valid_values", "price_collar")


def test_the_first_order_needs_a_number_of_its_own():
    made = desk(duplicate_window_s=1.0)
    assert made.judge(1.0, number=-1).broken == ("duplicate_order",)
    assert made.judge(1.0, number=0).outcome is ACCEPT


def test_rates_tell_how_many_orders_there_would_be():
    made = desk(max_symbol_orders=3, max_orders=4)
    verdict = made.judge(1.0)
    assert (result(verdict, "order_rate").value, result(verdict, "order_rate_symbol").value) == (1.0, 1.0)
    made.hold(1.0)
    made.hold(1.0, 100.0, "B")
    verdict = made.judge(1.0)
    assert (result(verdict, "order_rate").value, result(verdict, "order_rate_symbol").value) == (3.0, 2.0)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5, 63, 64, 65, 130])
def test_a_window_counts_as_a_plain_loop_would(count):
    times = [SECOND * (k // 2) for k in range(count)]
    ring = np.zeros(64, np.int64)
    for k, at in enumerate(times):
        ring[k % 64] = at
    now = times[-1] if times else 0
    for window in (0.5, 1.0, 1.5, 7.0, 1e6):
        wanted = min(64, sum(now - at < window * SECOND for at in times))
        assert within_window(ring, count, now, window) == wanted


def test_a_pause_is_told_in_seconds_and_an_exit_passes_it():
    made = desk(cooldown_losses=1, cooldown_s=30.0)
    made.hold(2.0)
    made.hold(-1.0, 99.0)
    made.tick(100.0, after_s=10.0)
    assert result(made.judge(1.0), "cooldown").value == 20.0
    assert made.judge(-1.0).outcome is ACCEPT
    assert made.judge(-3.0).quantity == -1.0


# ---- money ------------------------------------------------------------------------------------


def test_money_of_other_currencies_is_converted():
    made = desk(symbols={"E": {"currency": "EUR"}}, rates={"EUR": 1.25}, max_order_notional=1_000.0)
    made.tick(100.0, "E")
    assert made.judge(8.0, "E").outcome is ACCEPT
    assert made.judge(9.0, "E").quantity == 8.0
    made.hold(8.0, 100.0, "E")
    made.tick(110.0, "E")
    assert made.book.equity == pytest.approx(1e6 + 80.0 * 1.25)
    assert made.book.gross == pytest.approx(8 * 110 * 1.25)


def test_fees_and_partial_fills_and_rejects():
    made = desk(capital=1_000.0)
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
    made = desk(max_gross_notional=1e6)
    for k in range(100):
        made.tick(100.0 + k, f"S{k}")
        made.hold(1.0, symbol=f"S{k}")
        assert made.judge(1.0, f"N{k}", price=1.0).outcome is ACCEPT
    assert made.book.gross == sum(100.0 + k for k in range(100))
    assert made.book.position("S3").mark == 103.0
    assert len(made.book.symbols) == 201


def test_a_report_that_comes_again_is_not_taken_again():
    made = desk()
    buy = made.work(5.0)
    for sequence in (0, 0, 1, 0, 1):
        made.report(buy, ReportKind.FILL, 2.5, 100.0, sequence=sequence)
    assert made.book.quantity("A") == 5.0
    assert len(made.book.working) == 0
    made.report(
        999, ReportKind.FILL, 1.0, 100.0, sequence=0
    )  # of an order that was never ours: traded all the same
    assert made.book.quantity("A") == 6.0


def test_the_default_limits_are_on_where_a_desk_needs_them():
    limits = Limits()
    assert None not in {limits.max_order_notional, limits.price_collar, limits.max_staleness_s, limits.max_drawdown,
                        limits.max_concentration, limits.max_gross_notional, limits.max_leverage}  # fmt: skip
