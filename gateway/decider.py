"""From a batch's answers to its decisions, in the order of the log."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from gateway.ports import Clock, RawSlice
from trading.arrays import CodeArray, Float32Array, FloatArray, Int64Array
from trading.decision import kernel
from trading.decision.columns import KIND_CODES, room_for
from trading.decision.json import KINDS, Columns, DecisionWriter
from trading.decision.kernel import Outcomes, Terms, Ticks
from trading.decision.policy import DecisionPolicy
from trading.decision.schema import CODES, Reason
from trading.features.engine import FeatureRows
from trading.market import TickBatch
from trading.models.prediction import Prediction
from trading.risk.engine import NAMES
from trading.risk.model import BROKEN
from trading.risk.trading_state import SEVERITY, TradingState
from trading.state.partition import FeatureDump, PartitionState
from trading.trace import Traced, TraceIds, Tracer, parent_span_id

_DEADLINE, _INVALID = CODES[Reason.DEADLINE], CODES[Reason.PREDICTOR_INVALID]
FIRST_ROWS = 1024
#: Of `fills_to`: there is no broker, orders counted as filled.
ASSUMED = -1
_NO_ANSWER = np.empty((0, 0), np.float32)
# As the arrays of an answer are: for another type the kernel would be compiled again, in mid-traffic.
_NO_ANSWER.flags.writeable = False


class Slice(Struct, frozen=True):
    """A partition's part of a batch.

    Attributes:
        raw: the messages.
        state: of the partition.
        begin, end: its rows within the batch.
        kept: positions in `raw` of the messages that are ticks.
        letters: positions in `raw` of the others, with the reason.
        features: a copy of the feature state after the slice, where a snapshot is due.
    """

    raw: RawSlice
    state: PartitionState
    begin: int
    end: int
    kept: list[int]
    letters: list[tuple[int, str]]
    features: FeatureDump | None


class Batch(Struct, frozen=True):
    """Ticks of several partitions, a slice each, with what is known of them before they are decided.

    Attributes:
        slices: in the order of the rows.
        ticks: n ticks.
        rows: their features.
        partitions, offsets, sent_ns: int64 [n].
        shed: int8 [n], why a tick is not sent for inference; negative where it is.
    """

    slices: list[Slice]
    ticks: TickBatch
    rows: FeatureRows
    partitions: Int64Array
    offsets: Int64Array
    sent_ns: Int64Array
    shed: CodeArray


class Timing(Struct, frozen=True):
    """What a batch's ticks share of their stage times."""

    received_ns: int
    features_us: float
    inference_us: float
    started_ns: int


class Decided(Struct, frozen=True):
    """A batch's decisions.

    Attributes:
        keys, payloads: of the messages to publish.
        event_time_ns: int64 [n].
        kinds: int8 [n], places in `decision_writer.KINDS`.
        numbers: float64 [n, 5]: quantity, reference price, mid, position before and after.
        broken: how often each rule was broken.
        total_s: float64 [n], from sending to here.
        decided_at_ns: wall time, of all.
    """

    keys: list[bytes]
    payloads: list[bytes]
    event_time_ns: Int64Array
    kinds: CodeArray
    numbers: FloatArray
    broken: Counter[str]
    total_s: FloatArray
    decided_at_ns: int


class Judge:
    """Decides batches; one thread uses it."""

    def __init__(
        self,
        topic: str,
        policy: DecisionPolicy,
        latest_ns: int,
        clock: Clock,
        trace_ids: TraceIds,
        model_name: str,
        variant: str,
    ) -> None:
        """Prepare.

        Args:
            topic: of the ticks.
            policy: how a target becomes an order.
            latest_ns: the age beyond which an order would come too late, whatever the model says.
            clock: wall time.
            trace_ids: of the topic.
            model_name, variant: for the evidence.
        """
        self._policy, self._latest_ns, self._clock, self._trace_ids = policy, latest_ns, clock, trace_ids
        self._writer = DecisionWriter(topic, trace_ids.prefix, model_name, variant)
        self._outcomes = room_for(FIRST_ROWS)

    def decide(
        self,
        batch: Batch,
        prediction: Prediction | None,
        failure: Reason,
        timing: Timing,
        trading_state: TradingState,
        quotas: Mapping[int, float] | None = None,
    ) -> Decided:
        """Decide every tick, and move the books.

        Args:
            batch: of ticks.
            prediction: for those that are not shed; None where there is none, for the reason `failure`.
            timing: of the batch.
            trading_state: of the desk.
            quotas: partition -> gross exposure reserved for its book; absent cannot be known.
        """
        n, now_ns = len(batch.ticks), self._clock.now_ns()
        began_ns = np.minimum(batch.sent_ns, timing.received_ns)
        held, answer_rows = self._held(batch, prediction, failure, now_ns - began_ns)
        targets = np.full(n, np.nan)
        if prediction is not None:
            usable = answer_rows >= 0
            targets[usable] = prediction.target_position[answer_rows[usable]]
        out = self._room(n)
        for part in batch.slices:
            quota = math.nan if quotas is None else quotas.get(part.raw.partition, math.nan)
            terms = Terms(
                part.state.book.limits.calendar,
                SEVERITY[trading_state],
                quota,
                self._policy.rebalance_band,
                self._policy.assumed_fills,
            )
            decide_slice(part, batch, held, targets, terms, out)
        assumed = self._policy.assumed_fills
        queue_us = (timing.received_ns - began_ns) / 1e3
        decided_ns = self._clock.now_ns()
        decide_us = max(0, decided_ns - timing.started_ns) / 1e3
        keys = [symbol.encode() for symbol in batch.ticks.symbols]
        payloads = self._writer.write(
            Columns(
                partitions=batch.partitions,
                offsets=batch.offsets,
                symbols=keys,
                event_time_ns=batch.ticks.event_time_ns,
                kinds=out.kinds,
                numbers=out.numbers,
                targets=targets,
                features=batch.rows.values,
                warm=batch.rows.warm,
                answer_rows=answer_rows,
                answers=answers_of(prediction),
                outcomes=out.outcomes,
                results=out.results,
                values=out.values,
                limits=out.limits,
                queue_us=queue_us,
                traces=self._traces(batch),
                fills_to=spread(batch, [ASSUMED if assumed else part.state.fills_to for part in batch.slices]),
                control_to=spread(batch, [part.state.control_to for part in batch.slices]),
            ),
            "" if prediction is None else prediction.model_version,
            trading_state,
            (timing.features_us, timing.inference_us, decide_us),
            decided_ns,
            # One for all: before its first tick each book takes what is in force.
            next((part.state.book.limits.version for part in batch.slices if part.end > part.begin), ""),
        )
        return Decided(
            keys=keys,
            payloads=payloads,
            event_time_ns=batch.ticks.event_time_ns,
            kinds=out.kinds,
            numbers=out.numbers,
            broken=broken_rules(out),
            total_s=(queue_us + (timing.features_us + timing.inference_us + decide_us)) / 1e6,
            decided_at_ns=decided_ns,
        )

    def _held(
        self, batch: Batch, prediction: Prediction | None, failure: Reason, age_ns: Int64Array
    ) -> tuple[CodeArray, Int64Array]:
        """Why each tick is held whatever its target (negative: it is not), and its row in the answers."""
        held = batch.shed.copy()
        asked = held < 0
        answer_rows = np.where(asked, np.cumsum(asked) - 1, -1)
        if prediction is None:
            held[asked] = CODES[failure]
            answer_rows[:] = -1
        elif not prediction.valid.all():
            wrong = asked.copy()
            wrong[asked] = ~prediction.valid
            held[wrong] = _INVALID
            answer_rows[wrong] = -1
        held[asked & (age_ns > self._latest_ns)] = _DEADLINE
        return held, answer_rows

    def _room(self, n: int) -> Outcomes:
        """Used again: what it held of the batch before has been written."""
        if n > len(self._outcomes.kinds):
            self._outcomes = room_for(2 * n)
        o = self._outcomes
        return Outcomes(
            np.empty(n, np.int8),
            np.empty((n, 5)),
            o.outcomes[:n],
            o.results[:n],
            o.values[:n],
            o.limits[:n],
            o.again,
        )

    def _traces(self, batch: Batch) -> npt.NDArray[np.uint8]:
        traces = np.zeros((len(batch.ticks), 32), np.uint8)
        for part in batch.slices:
            given = part.raw.traceparents
            if any(given):
                for k, i in enumerate(part.kept, part.begin):
                    if (trace_id := self._trace_ids.given(given[i])) is not None:
                        traces[k] = np.frombuffer(trace_id, np.uint8)
        return traces


def decide_slice(
    part: Slice, batch: Batch, held: CodeArray, targets: FloatArray, terms: Terms, out: Outcomes
) -> None:
    """Decide a partition's ticks in order, and move its book."""
    mine, found, book = slice(part.begin, part.end), batch.rows, part.state.book
    ticks = Ticks(
        rows=book.rows(batch.ticks.symbols[mine]),
        numbers=batch.offsets[mine],
        event_time_ns=found.event_time_ns[mine],
        quote_time_ns=found.quote_time_ns[mine],
        sent_ns=batch.sent_ns[mine],
        market=found.market[mine],
        warm=found.warm[mine],
        held=held[mine],
        targets=targets[mine],
    )
    own = Outcomes(
        out.kinds[mine], out.numbers[mine], out.outcomes[mine], out.results[mine], out.values[mine],
        out.limits[mine], out.again,
    )  # fmt: skip
    kernel.decide(book.tables, terms, ticks, KIND_CODES, own)
    if not terms.assumed:
        book.note_working(ticks.rows, ticks.numbers, own.numbers[:, 0])


def spread(batch: Batch, values: list[int]) -> Int64Array:
    """A value a slice, for each of its rows."""
    return np.repeat(np.array(values, np.int64), [part.end - part.begin for part in batch.slices])


def broken_rules(out: Outcomes) -> Counter[str]:
    """How often each rule was broken."""
    judged = out.outcomes >= 0
    counts = np.count_nonzero(out.results[judged] == BROKEN, axis=0).tolist()
    return Counter({name: count for name, count in zip(NAMES, counts, strict=True) if count})


def answers_of(prediction: Prediction | None) -> tuple[Float32Array, Float32Array, Float32Array]:
    """Regime probabilities, signals and weights."""
    if prediction is None:
        return _NO_ANSWER, _NO_ANSWER, _NO_ANSWER
    return prediction.regime_probabilities, prediction.strategy_signals, prediction.strategy_weights


def budgets_left_ns(sent_ns: Int64Array, received_ns: int, now_ns: int, budget_ns: int) -> Int64Array:
    """What is left of each tick's budget; no clock that runs ahead or steps back lengthens it."""
    left: Int64Array = np.minimum(np.minimum(sent_ns, received_ns) + (budget_ns - now_ns), budget_ns)
    return left


def traces_of(batch: Batch, decided: Decided, timing: Timing, trace_ids: TraceIds, tracer: Tracer) -> None:
    """Record those decisions of a batch that are traced."""
    answered_ns = timing.started_ns
    asked_ns = answered_ns - int(timing.inference_us * 1e3)
    for part in batch.slices:
        raw = part.raw
        for k, i in enumerate(part.kept, part.begin):
            trace_id = trace_ids.of(raw.partition, raw.offsets[i], raw.traceparents[i])
            if not tracer.wants(trace_id):
                continue
            action, reason = KINDS[decided.kinds[k]]
            tracer.record(
                Traced(
                    name="decide",
                    trace_id=trace_id,
                    parent_span_id=parent_span_id(raw.traceparents[i]),
                    begin_ns=min(raw.sent_ns[i], timing.received_ns),
                    end_ns=decided.decided_at_ns,
                    events={
                        "received": timing.received_ns,
                        "features computed": asked_ns,
                        "model answered": answered_ns,
                    },
                    attributes={
                        "messaging.destination.partition.id": str(raw.partition),
                        "messaging.kafka.offset": raw.offsets[i],
                        "ultrathink.symbol": batch.ticks.symbols[k],
                        "ultrathink.action": action.value,
                        "ultrathink.reason": reason.value,
                    },
                )
            )
