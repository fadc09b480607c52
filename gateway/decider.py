"""From a batch's answers to its decisions, in the order of the log."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from msgspec import Struct

from gateway.arms import Answers
from gateway.batch import Batch, BatchTiming, PartitionBatch
from gateway.ports import Clock
from trading.arrays import ByteArray, CodeArray, Float32Array, FloatArray, Int64Array
from trading.decision.columns import DecisionColumns, TickColumns, allocate_columns, part_of
from trading.decision.decide import broken_rules, decide, least_headroom
from trading.decision.json import DecisionEvidence, DecisionWriter
from trading.decision.policy import DecisionPolicy
from trading.decision.schema import CODES, Reason
from trading.experiments.arms import Arm
from trading.models.prediction import Prediction
from trading.risk.trading_state import SEVERITY, TradingState
from trading.trace import TraceIds

_DEADLINE, _INVALID = CODES[Reason.DEADLINE], CODES[Reason.PREDICTOR_INVALID]
FIRST_ROWS = 1024
#: Of `fills_to`: there is no broker, orders counted as filled.
ASSUMED = -1
_NO_ANSWER = np.empty((0, 0), np.float32)
# As the arrays of an answer are: for another type the kernel would be compiled again, in mid-traffic.
_NO_ANSWER.flags.writeable = False


class Decided(Struct, frozen=True):
    """A batch's decisions.

    Attributes:
        keys, payloads: of the messages to publish.
        event_time_ns: int64 [n].
        arms: of the batch; `arm_rows`: int64 [n], which of them decided each row.
        kinds: int8 [n], places in `schema.KINDS`.
        quantities, prices: float64 [n], of the orders; quantity 0 where there is none.
        broken: how often each rule was broken.
        headroom: least share of each rule's limit that an order left.
        total_s: float64 [n], from sending to here.
        decided_at_ns: wall time, of all.
    """

    keys: list[bytes]
    payloads: list[bytes]
    event_time_ns: Int64Array
    arms: Sequence[Arm]
    arm_rows: Int64Array
    kinds: CodeArray
    quantities: FloatArray
    prices: FloatArray
    broken: Counter[str]
    headroom: dict[str, float]
    total_s: FloatArray
    decided_at_ns: int


class Decider:
    """Decides batches; one thread uses it."""

    def __init__(
        self,
        topic: str,
        policy: DecisionPolicy,
        latest_ns: int,
        clock: Clock,
        trace_ids: TraceIds,
    ) -> None:
        """Prepare.

        Args:
            topic: of the ticks.
            policy: how a target becomes an order.
            latest_ns: the age beyond which an order would come too late, whatever the model says.
            clock: wall time.
            trace_ids: of the topic.
        """
        self._policy, self._latest_ns, self._clock, self._trace_ids = policy, latest_ns, clock, trace_ids
        self._writer = DecisionWriter(topic, trace_ids.prefix)
        self._columns = allocate_columns(FIRST_ROWS)

    def decide(
        self,
        batch: Batch,
        answers: Answers,
        timing: BatchTiming,
        trading_state: TradingState,
        quotas: Mapping[int, float] | None = None,
    ) -> Decided:
        """Decide every tick, and move the books.

        Args:
            batch: of ticks.
            answers: for those that are not shed, and by which arms they are decided.
            timing: of the batch.
            trading_state: of the desk.
            quotas: partition -> gross exposure reserved for its book; absent cannot be known.
        """
        now_ns = self._clock.now_ns()
        began_ns = np.minimum(batch.sent_ns, timing.received_ns)
        prediction = answers.prediction
        held, answer_rows = self._held(batch, answers, now_ns - began_ns)
        targets = np.full(len(batch.ticks), np.nan)
        if prediction is not None:
            usable = answer_rows >= 0
            targets[usable] = prediction.target_position[answer_rows[usable]]
        out = self._room(len(batch.ticks))
        known = {} if quotas is None else quotas
        desk_quotas = [known.get(part.raw.partition, math.nan) for part in batch.parts]
        for part, quota in zip(batch.parts, desk_quotas, strict=True):
            self._decide_part(part, batch, held, targets, trading_state, quota, out)
        decided_ns = self._clock.now_ns()
        decide_us = max(0, decided_ns - timing.started_ns) / 1e3
        stages_us = (timing.features_us, timing.inference_us, decide_us)
        queue_us = (timing.received_ns - began_ns) / 1e3
        evidence = self._evidence(batch, answers, targets, answer_rows, (trading_state, desk_quotas), queue_us)
        return Decided(
            keys=evidence.symbols,
            payloads=self._writer.write(evidence, out, stages_us, decided_ns, answers.waited_us),
            event_time_ns=batch.ticks.event_time_ns,
            arms=evidence.arms,
            arm_rows=evidence.arm_rows,
            kinds=out.kinds.copy(),
            quantities=out.quantities.copy(),
            prices=out.prices.copy(),
            broken=broken_rules(out),
            headroom=least_headroom(out),
            total_s=(queue_us + sum(stages_us)) / 1e6,
            decided_at_ns=decided_ns,
        )

    def _decide_part(
        self,
        part: PartitionBatch,
        batch: Batch,
        held: CodeArray,
        targets: FloatArray,
        trading_state: TradingState,
        quota: float,
        out: DecisionColumns,
    ) -> None:
        """Decide a partition's ticks in order, and move its book."""
        mine, rows, book = slice(part.begin, part.end), batch.rows, part.state.book
        ticks = TickColumns(
            rows=book.rows(batch.ticks.symbols[mine]),
            numbers=batch.offsets[mine],
            event_time_ns=rows.event_time_ns[mine],
            quote_time_ns=rows.quote_time_ns[mine],
            sent_ns=batch.sent_ns[mine],
            market=rows.market[mine],
            warm=rows.warm[mine],
            held=held[mine],
            targets=targets[mine],
        )
        context = self._policy.context(book.limits, state=SEVERITY[trading_state], desk_quota=quota)
        decide(book, ticks, context, part_of(out, part.begin, part.end))

    def _evidence(
        self,
        batch: Batch,
        answers: Answers,
        targets: FloatArray,
        answer_rows: Int64Array,
        held_under: tuple[TradingState, Sequence[float]],
        queue_us: FloatArray,
    ) -> DecisionEvidence:
        trading_state, desk_quotas = held_under
        assumed = self._policy.assumed_fills
        return DecisionEvidence(
            partitions=batch.partitions,
            offsets=batch.offsets,
            symbols=[symbol.encode() for symbol in batch.ticks.symbols],
            event_time_ns=batch.ticks.event_time_ns,
            targets=targets,
            features=batch.rows.values,
            warm=batch.rows.warm,
            answer_rows=answer_rows,
            answers=answers_of(answers.prediction),
            arms=answers.arms,
            arm_rows=answers.arm_rows,
            limits_versions=[part.state.book.limits.version for part in batch.parts],
            desk_quotas=desk_quotas,
            limits_rows=batch.spread(range(len(batch.parts))),
            trading_state=trading_state,
            queue_us=queue_us,
            traces=self._traces(batch),
            fills_to=batch.spread([ASSUMED if assumed else part.state.fills_to for part in batch.parts]),
            control_to=batch.spread([part.state.control_to for part in batch.parts]),
        )

    def _held(self, batch: Batch, answers: Answers, age_ns: Int64Array) -> tuple[CodeArray, Int64Array]:
        """Why each tick is held whatever its target (negative: it is not), and its row in the answers."""
        held, prediction, failure = batch.shed.copy(), answers.prediction, answers.failure
        asked = held < 0
        answer_rows = np.where(asked, np.cumsum(asked) - 1, -1)
        if prediction is None:
            held[asked] = CODES[failure]
            answer_rows[:] = -1
        elif not prediction.valid.all():
            wrong = asked.copy()
            wrong[asked] = ~prediction.valid
            held[wrong] = _INVALID if failure is Reason.TARGET else CODES[failure]
            answer_rows[wrong] = -1
        held[asked & (age_ns > self._latest_ns)] = _DEADLINE
        return held, answer_rows

    def _room(self, n: int) -> DecisionColumns:
        """Used again: what it held of the batch before has been written."""
        if n > len(self._columns.kinds):
            self._columns = allocate_columns(2 * n)
        return part_of(self._columns, 0, n)

    def _traces(self, batch: Batch) -> ByteArray:
        traces = np.zeros((len(batch.ticks), 32), np.uint8)
        for part in batch.parts:
            given = part.raw.traceparents
            if any(given):
                for k, i in enumerate(part.kept, part.begin):
                    if (trace_id := self._trace_ids.given(given[i])) is not None:
                        traces[k] = np.frombuffer(trace_id, np.uint8)
        return traces


def answers_of(prediction: Prediction | None) -> tuple[Float32Array, Float32Array, Float32Array]:
    """Regime probabilities, signals and weights."""
    if prediction is None:
        return _NO_ANSWER, _NO_ANSWER, _NO_ANSWER
    return prediction.regime_probabilities, prediction.strategy_signals, prediction.strategy_weights
