"""Deciding a whole batch gives what deciding tick by tick would, and writes what `Decision` says."""

from __future__ import annotations

import math

import msgspec
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.domain.codec import decode_decision
from gateway.domain.decision import DecisionPolicy, Judged, Market, decide
from gateway.domain.features import WARM_TICKS
from gateway.domain.risk import Limits
from gateway.domain.schemas import (
    CODES,
    REASONS,
    Action,
    Decision,
    Reason,
    StageTimes,
    Tick,
    TickBatch,
    TradingState,
)
from gateway.domain.trace import TraceIds
from gateway.judge import Batch, Judge, Slice, Timing
from gateway.ports import Prediction, RawSlice
from gateway.state import PartitionState
from gateway.triage import ASKED
from tests.fakes import FakeClock

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
    raw = RawSlice(2, list(range(first_offset, first_offset + n)), sent, [None] * n, [b""] * n, given)
    batch = TickBatch.from_ticks(ticks)
    part = Slice(raw, state, 0, n, list(range(n)), [], None)
    shed = np.array([ASKED if row[5] is None else CODES[row[5]] for row in rows], np.int8)
    return Batch(
        [part], batch, state.observe(batch), np.full(n, 2), np.array(raw.offsets), np.array(sent), shed
    ), ticks


def prediction_of(rows, seed):
    asked = [row for row in rows if row[5] is None]
    random, n = np.random.default_rng(seed), len(asked)
    targets = np.array([row[4] for row in asked], np.float64)
    return Prediction(
        regime_probabilities=random.random((n, 3), np.float32),
        strategy_signals=random.random((n, 4), np.float32) * 2 - 1,
        strategy_weights=random.random((n, 4), np.float32),
        target_position=targets,
        valid=np.isfinite(targets),
        model_version="7",
    )


def one_by_one(batch, ticks, prediction, failure, timing, trading_state, policy, clock, state):
    """What the columns must amount to, told plainly. `state` is a second state, not the slice's."""
    row, newest, found = 0, state.clock.now_ns, []
    (part,) = batch.slices
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
        newest = max(newest, tick.event_time_ns)
        age = newest - min(tick.event_time_ns, int(batch.rows.quote_time_ns[k]))
        market = Market(*batch.rows.market[k].tolist())
        if not math.isnan(market.mid):
            state.book.mark(tick.symbol, market.mid)
        before = state.book.quantity(tick.symbol)
        target = float(prediction.target_position[mine]) if usable else None
        judged = (
            Judged(Action.HOLD, held)
            if held is not None
            else decide(
                tick.symbol, target, bool(batch.rows.warm[k]), market, age, state.book, trading_state, policy
            )
        )
        after = round(before + judged.quantity, 10) if judged.quantity else before
        state.book.set_quantity(tick.symbol, after)
        evidence = ("regime_probabilities", "strategy_signals", "strategy_weights")
        answers = [getattr(prediction, name)[mine].tolist() if usable else [] for name in evidence]
        decision = Decision(
            f"market.ticks-2-{part.raw.offsets[k]}", tick.symbol, tick.event_time_ns, judged.action, judged.reason,
            judged.quantity, judged.reference_price, None if math.isnan(market.mid) else market.mid, before, after,
            target, batch.rows.values[k].tolist(), bool(batch.rows.warm[k]), *answers,
            "trading_decision", "" if prediction is None else "7", "champion", trading_state, judged.verdict,
            StageTimes((timing.received_ns - began) / 1e3, timing.features_us, timing.inference_us, 0.0),
            clock.now_ns(), TRACE_IDS.of(2, part.raw.offsets[k], part.raw.traceparents[k]),
        )  # fmt: skip
        found.append(decision)
    state.clock.advance(newest)
    return found


def as_float32(decision):
    """What is written with nine digits, at its own width; and stage times to a tenth."""
    narrow = {
        name: np.array(getattr(decision, name), np.float32).tobytes()
        for name in ("features", "regime_probabilities", "strategy_signals", "strategy_weights")
    }
    target = decision.target_position
    narrow["target_position"] = None if target is None else np.float32(target).tobytes()
    stages = {k: round(v, 1) for k, v in msgspec.structs.asdict(decision.stages).items()}
    return {**msgspec.structs.asdict(decision), **narrow, "stages": stages}


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
    limits = Limits(max_order_notional=60_000.0, max_gross_notional=150_000.0, halted_allows_exits=True)
    policy = DecisionPolicy(limits, rebalance_band=band)
    judge = Judge("market.ticks", policy, BUDGET, clock, TRACE_IDS, "trading_decision", "champion")
    state, other = PartitionState(), PartitionState()
    warm = [tick_of("A", 100.0, "quote", START - (WARM_TICKS - k) * SECOND) for k in range(WARM_TICKS)]
    for one in (state, other):
        one.replay(warm)
    for number, rows in enumerate((first, second)):
        batch, ticks = make_batch(rows, clock, state, number * 1000)
        prediction = prediction_of(rows, number) if answered else None
        timing = Timing(clock.now_ns(), 12.25, 345.5, clock.now_ns())
        told = (prediction, Reason.PREDICTOR_TIMEOUT, timing, trading_state)
        decided = judge.decide(batch, *told)
        wanted = one_by_one(batch, ticks, *told, policy, clock, other)
        found = [decode_decision(payload) for payload in decided.payloads]
        assert [as_float32(d) for d in found] == [as_float32(d) for d in wanted]
        assert decided.keys == [tick.symbol.encode() for tick in ticks]
        assert state.book.dump() == other.book.dump()
        assert state.clock.now_ns == other.clock.now_ns
        assert sum(decided.broken.values()) == sum(len(d.verdict.broken) for d in wanted if d.verdict)
