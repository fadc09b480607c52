"""Everything that is compiled or connected at its first use, used once before the first tick.

A first call compiles for seconds where nothing is cached yet, and a tick has 50 ms. What must have been used is
not a list here: `trading.compiled` registers it, and says what was left out.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gateway.arms import Answers, overlaid
from gateway.batch import Batch, BatchTiming, PartitionBatch
from gateway.decider import Decider
from gateway.load_shedding import ASKED
from gateway.ports import Clock, Predictor, RawSlice
from trading.arrays import Float32Array
from trading.compiled import types_by_entry
from trading.decision.policy import DecisionPolicy
from trading.decision.schema import Reason
from trading.decision.sizing import target_quantity
from trading.events import Command, ExecutionReport, PartitionEvents, ReportKind
from trading.experiments.arms import Arm
from trading.features.engine import FeatureEngine
from trading.history import open_source
from trading.market import Tick, TickBatch
from trading.portfolio.book import RESETS, Book
from trading.risk.limits import LimitSet
from trading.risk.self_test import prove_all
from trading.risk.trading_state import TradingState
from trading.state.codec import decode_snapshot, encode_snapshot
from trading.state.partition import PartitionState
from trading.trace import TraceIds

PREDICT_S = 5.0
#: What a start is tried with.
PROBE = "simulate:regimes?seed=11&ticks=1024&symbols=3"


def warm_up(ticks: list[Tick], predictor: Predictor, policy: DecisionPolicy, clock: Clock) -> None:
    """A made-up life of a partition, into nowhere: every branch with the types that it will see.

    Raises:
        PredictionError: the server does not answer.
        AssertionError: a compiled function was not used: it would be compiled in mid-traffic.
    """
    n, now_ns = len(ticks), clock.now_ns()
    together, state = TickBatch.from_ticks(ticks), PartitionState(policy.limits)
    absent: list[bytes | None] = [None] * n
    raw = RawSlice(0, list(range(n)), [now_ns] * n, absent, absent, absent, [now_ns] * n)
    batch = Batch(
        parts=[PartitionBatch(raw, state, 0, n, list(range(n)), [], None)],
        ticks=together,
        rows=state.observe(together),
        partitions=np.zeros(n, np.int64),
        offsets=np.arange(n),
        sent_ns=np.full(n, now_ns),
        shed=np.full(n, ASKED, np.int8),
        left_ns=np.full(n, 2**62),
    )
    arms = (Arm("", predictor.model_name, ""),)
    decider = Decider("warm-up", policy, 2**62, clock, TraceIds("warm-up"))
    timing = BatchTiming(now_ns, 0.0, 0.0, now_ns)
    answer = predictor.predict(batch.rows.values, PREDICT_S)
    every = np.arange(n)
    # As it is where a challenger answers some of the rows.
    for prediction in (answer, overlaid(answer, n, [(every[answer.valid], answer)]), None):
        answers = Answers(prediction, Reason.PREDICTOR_UNAVAILABLE, arms, np.zeros(n, np.int64))
        decider.decide(batch, answers, timing, TradingState.ACTIVE)
    state.take(everything_else(ticks[0].symbol, policy.limits, now_ns))
    rebuilt_like(state, ticks, policy.limits)
    prove_all(policy.limits, Book)
    # What an export compares orders with.
    target_quantity(0.5, 100.0, policy.limits.book.max_position_notional, policy.limits.book.lot)
    unused = [name for name, types in types_by_entry().items() if not types]
    if unused:
        raise AssertionError(f"the warm-up leaves out {', '.join(unused)}")


def everything_else(symbol: str, limits: LimitSet, now_ns: int) -> PartitionEvents:
    """Each kind of what reaches a partition beside its ticks."""
    reports = [
        ExecutionReport("warm-up", -1, number, symbol, kind, 1.0, 1.0, 0.0, 0.0, now_ns)
        for number, kind in enumerate(ReportKind)
    ]
    commands = [Command("reset", what, "warm-up", "gateway", now_ns) for what in RESETS]
    changed = (Command("limits", "", "warm-up", "gateway", now_ns), limits)
    return PartitionEvents([changed, *((command, None) for command in commands)], 0, reports, 0)


def rebuilt_like(state: PartitionState, ticks: list[Tick], limits: LimitSet) -> None:
    """As a partition is rebuilt, from a snapshot and from ticks, and goes on."""
    name, n = "warm-up", len(ticks)
    payload = encode_snapshot(state.snapshot(0, n, 0, state.dump_features()), name)
    loaded = PartitionState.of(decode_snapshot(payload, name, 0))
    for one, assumed in ((loaded, True), (PartitionState(limits), False)):
        one.replay(ticks, [tick.event_time_ns for tick in ticks], range(n), {0: (1.0, 1.0)}, assumed=assumed)


def probe_ticks() -> list[Tick]:
    """What a start is tried with."""
    return [record.tick for record in open_source(PROBE).records()]


def probe_rows(ticks: Sequence[Tick]) -> Float32Array:
    """What a model is asked at a start, to learn how a row's answer depends on its company; float32 [n, 32]."""
    return FeatureEngine().update(TickBatch.from_ticks(ticks)).values
