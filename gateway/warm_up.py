"""Everything that is compiled or connected at its first use, used once before the first tick.

A first call compiles for seconds where nothing is cached yet, and a tick has 50 ms.
"""

from __future__ import annotations

import numpy as np

from gateway.batch import Batch, BatchTiming, PartitionBatch
from gateway.decider import Decider
from gateway.load_shedding import ASKED
from gateway.ports import Clock, Predictor, RawSlice
from trading.decision.policy import DecisionPolicy
from trading.decision.schema import Reason
from trading.events import ExecutionReport, PartitionEvents, ReportKind
from trading.experiments.arms import Arm
from trading.market import Tick, TickBatch
from trading.risk.trading_state import TradingState
from trading.state.partition import PartitionState
from trading.trace import TraceIds

PREDICT_S = 5.0


def warm_up(ticks: list[Tick], predictor: Predictor, policy: DecisionPolicy, clock: Clock) -> None:
    """Decide made-up ticks into nowhere, with an answer of the model and without.

    Raises:
        PredictionError: the server does not answer.
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
        arm_rows=np.zeros(n, np.int8),
        shed=np.full(n, ASKED, np.int8),
        left_ns=np.full(n, 2**62),
    )
    arms = (Arm("", predictor.model_name, ""),)
    decider = Decider("warm-up", policy, 2**62, clock, TraceIds("warm-up"), arms)
    timing = BatchTiming(now_ns, 0.0, 0.0, now_ns)
    for prediction in (predictor.predict(batch.rows.values, PREDICT_S), None):
        decider.decide(batch, prediction, Reason.PREDICTOR_UNAVAILABLE, timing, TradingState.ACTIVE)
    # The first fill must not be what the code for fills is loaded, or compiled, for.
    fill = ExecutionReport("warm-up", -1, 0, ticks[0].symbol, ReportKind.FILL, 1.0, 1.0, 0.0, 0.0, now_ns)
    state.take(PartitionEvents([], 0, [fill], 0))
