"""From a batch's answers to its decisions, in the order of the log."""

from __future__ import annotations

from collections import Counter

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from gateway.domain import decision_kernel as kernel
from gateway.domain.codec import encode
from gateway.domain.decision import DecisionPolicy, Judged, Market, decide
from gateway.domain.decision_writer import BUY, KINDS, SELL, Columns, DecisionWriter
from gateway.domain.features import FeatureRows
from gateway.domain.position import Book
from gateway.domain.schemas import (
    CODES,
    Action,
    Float32Array,
    FloatArray,
    Int64Array,
    Reason,
    ReasonCodes,
    TickBatch,
    TradingState,
)
from gateway.domain.trace import TraceIds, parent_span_id
from gateway.ports import Clock, Prediction, RawSlice, Traced, Tracer
from gateway.state import FeatureDump, PartitionState

#: What the kernel writes by itself.
_SETTLED = np.array([CODES[r] for r in (Reason.WITHIN_BAND, Reason.WARMING_UP, Reason.NO_PRICE)], np.int8)
_DEADLINE, _INVALID = CODES[Reason.DEADLINE], CODES[Reason.PREDICTOR_INVALID]
_NO_ANSWER = np.empty((0, 0), np.float32)
# As the arrays of an answer are: for another type the kernel would be compiled again, in mid-traffic.
_NO_ANSWER.flags.writeable = False
QUANTITY, REFERENCE, MID, BEFORE, AFTER = range(5)


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
    shed: ReasonCodes


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
        kinds: int8 [n], places in `decision_writer.KINDS`.
        broken: how often each rule was broken.
        total_s: float64 [n], from sending to here.
        decided_at_ns: wall time, of all.
    """

    keys: list[bytes]
    payloads: list[bytes]
    kinds: ReasonCodes
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
        largest = policy.limits.max_position_notional
        self._limits = np.array([largest, policy.lot, policy.rebalance_band * largest])

    def decide(
        self,
        batch: Batch,
        prediction: Prediction | None,
        failure: Reason,
        timing: Timing,
        trading_state: TradingState,
    ) -> Decided:
        """Decide every tick, and move the books; `failure` is why there is no prediction."""
        n, now_ns = len(batch.ticks), self._clock.now_ns()
        began_ns = np.minimum(batch.sent_ns, timing.received_ns)
        held, answer_rows = self._held(batch, prediction, failure, now_ns - began_ns)
        targets = np.full(n, np.nan)
        if prediction is not None:
            usable = answer_rows >= 0
            targets[usable] = prediction.target_position[answer_rows[usable]]
        numbers = np.full((n, 5), np.nan)
        numbers[:, QUANTITY] = 0.0
        numbers[:, MID] = batch.rows.market[:, 3]
        kinds, judged = np.zeros(n, np.int8), []
        for part in batch.slices:
            judged += self._decide_slice(part, batch, held, targets, numbers, kinds, trading_state)
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
                kinds=kinds,
                numbers=numbers,
                targets=targets,
                features=batch.rows.values,
                warm=batch.rows.warm,
                answer_rows=answer_rows,
                answers=answers_of(prediction),
                verdicts=[encode(found.verdict) for _, found in judged],
                judged=[k for k, _ in judged],
                queue_us=queue_us,
                traces=self._traces(batch),
            ),
            "" if prediction is None else prediction.model_version,
            trading_state,
            (timing.features_us, timing.inference_us, decide_us),
            decided_ns,
        )
        return Decided(
            keys=keys,
            payloads=payloads,
            kinds=kinds,
            broken=Counter(rule for _, found in judged if found.verdict for rule in found.verdict.broken),
            total_s=(queue_us + (timing.features_us + timing.inference_us + decide_us)) / 1e6,
            decided_at_ns=decided_ns,
        )

    def _held(
        self, batch: Batch, prediction: Prediction | None, failure: Reason, age_ns: Int64Array
    ) -> tuple[ReasonCodes, Int64Array]:
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

    def _decide_slice(
        self,
        part: Slice,
        batch: Batch,
        held: ReasonCodes,
        targets: FloatArray,
        numbers: FloatArray,
        kinds: ReasonCodes,
        trading_state: TradingState,
    ) -> list[tuple[int, Judged]]:
        """Fill `numbers` and `kinds`, move the book; returns what was judged by the rules."""
        begin, end, found, book, clock = part.begin, part.end, batch.rows, part.state.book, part.state.clock
        rows = book.rows(batch.ticks.symbols[begin:end])
        own = numbers[begin:end]
        ages_ns = np.empty(end - begin, np.int64)
        judged: list[tuple[int, Judged]] = []
        k = -1
        while True:
            k = kernel.scan(
                k + 1, rows, book.quantities, book.marks, clock.cell, found.event_time_ns[begin:end],
                found.quote_time_ns[begin:end], own, found.warm[begin:end], held[begin:end], targets[begin:end],
                self._limits, _SETTLED, kinds[begin:end], ages_ns,
            )  # fmt: skip
            if k == end - begin:
                return judged
            market, symbol = Market(*found.market[begin + k].tolist()), batch.ticks.symbols[begin + k]
            target, age_ns = float(targets[begin + k]), int(ages_ns[k])
            one = decide(symbol, target, True, market, age_ns, book, trading_state, self._policy)
            kinds[begin + k] = kind_of(one)
            if one.verdict is not None:
                judged.append((begin + k, one))
            note(book, int(rows[k]), one, own[k])

    def _traces(self, batch: Batch) -> npt.NDArray[np.uint8]:
        traces = np.zeros((len(batch.ticks), 32), np.uint8)
        for part in batch.slices:
            given = part.raw.traceparents
            if any(given):
                for k, i in enumerate(part.kept, part.begin):
                    if (trace_id := self._trace_ids.given(given[i])) is not None:
                        traces[k] = np.frombuffer(trace_id, np.uint8)
        return traces


def note(book: Book, row: int, one: Judged, numbers: FloatArray) -> None:
    """Take an order for filled."""
    if one.reference_price is not None:
        numbers[REFERENCE] = one.reference_price
    if one.quantity != 0.0:
        after = round(float(book.quantities[row]) + one.quantity, 10)
        numbers[QUANTITY], numbers[AFTER] = one.quantity, after
        book.quantities[row] = after


def kind_of(judged: Judged) -> int:
    """The place in `decision_writer.KINDS`."""
    if judged.action is Action.HOLD:
        return CODES[judged.reason]
    return BUY if judged.action is Action.BUY else SELL


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
