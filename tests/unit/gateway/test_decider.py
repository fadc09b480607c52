"""Deciding a whole batch gives what deciding tick by tick would, and writes what `Decision` says."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.arms import Answers
from gateway.batch import Batch, BatchTiming, PartitionBatch
from gateway.decider import Decider
from gateway.load_shedding import ASKED
from gateway.pipeline import counts_of
from gateway.ports import RawSlice
from tests.fakes import FakeClock, limit_set
from trading.decision.policy import DecisionPolicy
from trading.decision.schema import CODES, REASONS, Action, Decision, Reason, StageTimes
from trading.decision.wire import decode_decision
from trading.experiments.arms import Arm
from trading.features.definitions import WARM_TICKS
from trading.market import Tick, TickBatch
from trading.models.prediction import Prediction
from trading.models.signature import STRATEGIES
from trading.portfolio import marks
from trading.risk.model import Order
from trading.risk.trading_state import TradingState
from trading.risk.verdict import Outcome
from trading.state.partition import PartitionState
from trading.trace import TraceIds

START, SECOND, BUDGET = 1_600_000_000_000_000_000, 1_000_000_000, 50_000_000
TRACE_IDS = TraceIds("market.ticks")
SHED = [Reason.DEADLINE, Reason.SUPERSEDED]

moments = st.tuples(
    st.sampled_from(["A", "B/USD", "long.name-of_a:symbol"]),
    st.floats(0.01, 1e5),  # price
    st.sampled_from(["quote", "trade", "nothing"]),
    st.sampled_from([0, 1, 1, 1, 7, -3]),  # seconds since the tick before
    st.one_of(st.floats(-1, 1, width=32), st.just(math.nan)),  # target
    st.sampled_from([None] * 6 + SHED),
    st.integers(0, 60),  # age in ms
)


def tick_of(symbol, price, kind, at):
    if kind == "quote":
        return Tick(symbol, at, price, price * 1.0001, 1.0, 2.0)
    return Tick(symbol, at, last=price, last_size=1.0) if kind == "trade" else Tick(symbol, at, bid_size=1.0)


def make_batch(rows, clock, state, first_offset):
    at, ticks = START + first_offset * 100 * SECOND, []
    for symbol, price, kind, gap, *_ in rows:
        at += gap * SECOND
        ticks.append(tick_of(symbol, price, kind, at))
    n = len(ticks)
    sent = [clock.now_ns() - age * 1_000_000 for *_, age in rows]
    given = [b"00-" + b"ab" * 16 + b"-00000000000000ff-01" if k % 3 == 0 else None for k in range(n)]
    raw = RawSlice(2, list(range(first_offset, first_offset + n)), sent, [None] * n, [b""] * n, given, sent)
    batch = TickBatch.from_ticks(ticks)
    part = PartitionBatch(raw, state, 0, n, list(range(n)), [], None)
    shed = np.array([ASKED if row[5] is None else CODES[row[5]] for row in rows], np.int8)
    return Batch(
        [part], batch, state.observe(batch), np.full(n, 2), np.array(raw.offsets), np.array(sent),
        shed, np.full(n, BUDGET),
    ), ticks  # fmt: skip


def prediction_of(rows, seed):
    asked = [row for row in rows if row[5] is None]
    random, n = np.random.default_rng(seed), len(asked)
    targets = np.array([row[4] for row in asked], np.float64)
    return Prediction(
        regime_probabilities=random.random((n, 3), np.float32),
        strategy_signals=random.random((n, len(STRATEGIES)), np.float32) * 2 - 1,
        strategy_weights=random.random((n, len(STRATEGIES)), np.float32),
        target_position=targets,
        valid=np.isfinite(targets),
        model_version="7",
    )


def decide(book, symbol, target, market, times, number, trading_state, policy):
    """A tick's order, told plainly; returns action, reason, quantity, price and verdict."""
    bid, ask, last, mid = market
    age_ns = observe(book, symbol, times)
    limits, position = policy.limits.of(symbol), book.position(symbol)
    wanted = math.copysign(math.floor(abs(target * limits.max_position_notional / mid) / limits.lot + 1e-9), target)
    quantity = round(wanted * limits.lot - position.quantity, 10)
    if quantity == 0 or abs(quantity) * mid < policy.rebalance_band * limits.max_position_notional:
        return Action.HOLD, Reason.WITHIN_BAND, 0.0, None, None
    price = ask if quantity > 0 else bid
    price = last if math.isnan(bid) and math.isnan(ask) else price
    severity = list(TradingState).index(trading_state)
    order = Order(quantity, price, math.nan, bid, ask, mid, number, book.now_ns, age_ns, severity, True, math.nan)
    verdict = book.judge(symbol, order)
    told = None if math.isnan(price) else price
    if verdict.outcome is Outcome.DENY:
        return Action.HOLD, Reason.DENIED, 0.0, told, verdict
    book.accept(symbol, verdict.quantity, price, number, assumed=True)
    return (Action.BUY if verdict.quantity > 0 else Action.SELL), Reason.TARGET, verdict.quantity, told, verdict


def one_by_one(batch, ticks, prediction, failure, timing, trading_state, policy, clock, state):
    """What the columns must amount to, told plainly. `state` is a second state, not the slice's."""
    row, found, book = 0, [], state.book
    (part,) = batch.parts
    for k, tick in enumerate(ticks):
        held = None if batch.shed[k] < 0 else REASONS[batch.shed[k]]
        began = min(part.raw.sent_ns[k], timing.received_ns)
        usable, mine = False, row
        if held is None:
            row += 1
            usable = prediction is not None and bool(prediction.valid[mine])
            if clock.now_ns() - began > BUDGET:
                held = Reason.DEADLINE
            elif not usable:
                held = failure if prediction is None else Reason.PREDICTOR_INVALID
        market, number = batch.rows.market[k].tolist(), part.raw.offsets[k]
        mid, before = market[3], book.quantity(tick.symbol)
        target = float(prediction.target_position[mine]) if usable else None
        times = (tick.event_time_ns, int(batch.rows.quote_time_ns[k]), part.raw.sent_ns[k], mid)
        order = (Action.HOLD, held, 0.0, None, None)
        if held is None and not batch.rows.warm[k]:
            order = (Action.HOLD, Reason.WARMING_UP, 0.0, None, None)
        elif held is None and math.isnan(mid):
            order = (Action.HOLD, Reason.NO_PRICE, 0.0, None, None)
        if order[1] is None:
            order = decide(book, tick.symbol, target, market, times, number, trading_state, policy)
        else:
            observe(book, tick.symbol, times)
        action, reason, quantity, price, verdict = order
        evidence = ("regime_probabilities", "strategy_signals", "strategy_weights")
        answers = [getattr(prediction, name)[mine].tolist() if usable else [] for name in evidence]
        decision = Decision(
            f"market.ticks-2-{number}", tick.symbol, tick.event_time_ns, action, reason,
            quantity, price, None if math.isnan(mid) else mid, before, book.quantity(tick.symbol),
            target, batch.rows.values[k].tolist(), bool(batch.rows.warm[k]), *answers,
            "trading_decision", "" if prediction is None else "7", "champion", trading_state, verdict,
            StageTimes((timing.received_ns - began) / 1e3, timing.features_us, timing.inference_us, 0.0),
            clock.now_ns(), TRACE_IDS.of(2, number, part.raw.traceparents[k]), policy.limits.version, None,
            fills_to=-1, control_to=12,
        )  # fmt: skip
        found.append(decision)
    return found


def observe(book, symbol, times):
    event_ns, quote_ns, sent_ns, mid = times
    tables = book.tables
    return marks.observe(tables, book.limits.calendar, book.row(symbol), event_ns, quote_ns, sent_ns, mid)


def as_float32(decision):
    """What is written with nine digits, at its own width; and stage times to a tenth."""
    narrow = {
        name: np.array(getattr(decision, name), np.float32).tobytes()
        for name in ("features", "regime_probabilities", "strategy_signals", "strategy_weights")
    }
    # Of a large position the kernel's sum and the plain one differ in the last digit.
    narrow |= {name: round(getattr(decision, name), 9) for name in ("position_before", "position_after")}
    target = decision.target_position
    narrow["target_position"] = None if target is None else np.float32(target).tobytes()
    stages = {k: round(v, 1) for k, v in msgspec.structs.asdict(decision.stages).items()}
    verdict = decision.verdict
    if verdict is not None:
        results = [
            (r.rule, r.passed, *(None if v is None else approx(v) for v in (r.value, r.limit, r.headroom)))
            for r in verdict.results
        ]
        verdict = (verdict.outcome, verdict.quantity, results)
    return {**msgspec.structs.asdict(decision), **narrow, "stages": stages, "verdict": verdict}


def approx(value):
    """Nine significant digits."""
    return pytest.approx(value, rel=2e-8, abs=1e-30)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(moments, min_size=1, max_size=40),
    st.lists(moments, min_size=1, max_size=20),
    st.sampled_from(list(TradingState)),
    st.booleans(),
    st.sampled_from([0.0, 0.05, 0.5]),
)
def test_a_batch_is_decided_as_its_ticks_one_by_one(first, second, trading_state, answered, band):
    clock = FakeClock()
    limits = limit_set(
        max_order_notional=60_000.0, max_gross_notional=150_000.0, halted_allows_exits=True, max_drawdown=0.02,
        capital=300_000.0, max_symbol_orders=3, max_orders=4, order_window_s=2.0, max_same_way_executions=5,
        max_value_at_risk=20_000.0, var_min_bars=5, max_daily_loss=9_000.0, cooldown_losses=2, max_net_notional=1e5,
        min_notional=100.0, price_increment=0.0,
    )  # fmt: skip
    policy = DecisionPolicy(limits, rebalance_band=band)
    decider = Decider("market.ticks", policy, BUDGET, clock, TRACE_IDS)
    state, other = PartitionState(limits), PartitionState(limits)
    warm = [tick_of("A", 100.0, "quote", START - (WARM_TICKS - k) * SECOND) for k in range(WARM_TICKS)]
    for one in (state, other):
        one.replay(warm, [clock.now_ns()] * WARM_TICKS, range(-WARM_TICKS, 0), {}, assumed=True)
        one.fills_to, one.control_to = 11, 12
    for number, rows in enumerate((first, second)):
        batch, ticks = make_batch(rows, clock, state, number * 1000)
        prediction = prediction_of(rows, number) if answered else None
        timing = BatchTiming(clock.now_ns(), 12.25, 345.5, clock.now_ns())
        failure = Reason.TARGET if answered else Reason.PREDICTOR_TIMEOUT
        arm = Arm("champion", "trading_decision", "7" if answered else "")
        answers = Answers(prediction, failure, (arm,), np.zeros(len(ticks), np.int64))
        decided = decider.decide(batch, answers, timing, trading_state)
        told = (prediction, failure, timing, trading_state)
        wanted = one_by_one(batch, ticks, *told, policy, clock, other)
        found = [decode_decision(payload) for payload in decided.payloads]
        assert [as_float32(d) for d in found] == [as_float32(d) for d in wanted]
        assert decided.keys == [tick.symbol.encode() for tick in ticks]
        assert state.book.dump() == other.book.dump()
        assert sum(decided.broken.values()) == sum(len(d.verdict.broken) for d in wanted if d.verdict)


def test_each_row_is_its_arms_in_the_decision_and_in_the_counts():
    clock, limits = FakeClock(), limit_set(max_order_notional=1e6)
    arms = (
        Arm("champion", "trading_decision", "7", "fresh@5", "champion"),
        Arm("challenger", "trading_decision_fused", "9", "fresh@5", "challenger"),
        Arm("champion", "trading_decision", "7", "fresh@5", "challenger", "timeout"),
        Arm("champion", "trading_decision", "7"),
    )
    decider = Decider("market.ticks", DecisionPolicy(limits), BUDGET, clock, TRACE_IDS)
    rows = [("A", 100.0, "quote", 1, 0.5, None, 0)] * 5
    batch, _ = make_batch(rows, clock, PartitionState(limits), 0)
    timing = BatchTiming(clock.now_ns(), 0.0, 0.0, clock.now_ns())
    rows_of = np.array([0, 1, 1, 2, 3])
    answers = Answers(prediction_of(rows, 1), Reason.TARGET, arms, rows_of)
    decided = decider.decide(batch, answers, timing, TradingState.ACTIVE)
    written = [decode_decision(payload) for payload in decided.payloads]
    told = [Arm(d.variant, d.model_name, d.model_version, d.experiment, d.assigned, d.fallback) for d in written]
    assert told == [arms[k] for k in rows_of]
    # Outside of experiments a decision is what it was before there were any.
    assert [b'"experiment"' in payload for payload in decided.payloads] == [True] * 4 + [False]
    counts = counts_of(decided)
    assert counts.kinds == {
        ("champion", "hold", "warming_up"): 3, ("challenger", "hold", "warming_up"): 2,
    }  # fmt: skip
    assert counts.experiments == {
        ("fresh", "champion", ""): 1, ("fresh", "challenger", ""): 2, ("fresh", "challenger", "timeout"): 1,
    }  # fmt: skip
