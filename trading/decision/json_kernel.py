"""Decisions as JSON, written into one buffer by compiled code; `wire` says what the form is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from trading.arrays import BoolArray, ByteArray, Float32Array, FloatArray, Int64Array
from trading.compiled import entry, inline
from trading.decision import wire
from trading.decision.columns import DecisionColumns
from trading.decision.numbers import (
    CLOSE,
    CLOSE_OBJECT,
    COMMA,
    DOT,
    FLOAT_BYTES,
    MINUS,
    NULL,
    ZERO,
    copy_text,
    literal,
    write_double,
    write_float32,
    write_hex,
    write_integer,
    write_row,
)
from trading.decision.schema import KINDS
from trading.risk.model import BROKEN, OFF
from trading.risk.rules import NAMES

#: Hexadecimal digits that a trace id ends with: the tick's partition and offset.
PARTITION_DIGITS, OFFSET_DIGITS = 4, 12
TRACE_DIGITS = 32
#: Of a rule's result beside its name.
RESULT_BYTES = 3 * FLOAT_BYTES + 64


class Texts(NamedTuple):
    """Texts, one behind another.

    Attributes:
        text: uint8 [.].
        ends: int64 [n + 1]: text k lies from `ends[k]` to before `ends[k + 1]`.
    """

    text: ByteArray
    ends: Int64Array


def texts(parts: Iterable[bytes]) -> Texts:
    """As compiled code takes them."""
    every = list(parts)
    return Texts(literal(b"".join(every)), np.cumsum([0, *map(len, every)]))


class EvidenceColumns(NamedTuple):
    """What n decisions carry beside what was decided.

    Attributes:
        partitions, offsets: int64 [n], of the ticks.
        symbols: of the ticks.
        event_time_ns: int64 [n].
        targets: float64 [n], NaN where there is none.
        features: float32 [n, .].
        warm: bool [n].
        answer_rows: int64 [n], row in the model's answers; negative where there is none.
        regimes, signals, weights: float32 [., .], the model's answers.
        served: the fields from the model's name to the limits' version, each as often as it differs.
        served_rows: int64 [n], which of them.
        queue_us: float64 [n].
        traces: uint8 [n, 32], trace ids of the producers; first byte 0 where there is none.
        fills_to, control_to: int64 [n], what the book had taken of the broker's reports and of the control topic.
    """

    partitions: Int64Array
    offsets: Int64Array
    symbols: Texts
    event_time_ns: Int64Array
    targets: FloatArray
    features: Float32Array
    warm: BoolArray
    answer_rows: Int64Array
    regimes: Float32Array
    signals: Float32Array
    weights: Float32Array
    served: Texts
    served_rows: Int64Array
    queue_us: FloatArray
    traces: ByteArray
    fills_to: Int64Array
    control_to: Int64Array


class BatchTexts(NamedTuple):
    """What all decisions of a batch share, as text.

    Attributes:
        head: what an id begins with, up to the partition.
        stages: the fields of the stage times but `queue_us`.
        decided_at: the wall time, in digits.
        trace_prefix: what a trace id of the topic begins with.
    """

    head: ByteArray
    stages: ByteArray
    decided_at: ByteArray
    trace_prefix: ByteArray


#: What stands between the values, in the order of `Decision`'s fields.
KIND_TEXT = texts(wire.ACTION + f'{action}","reason":"{reason}"'.encode() for action, reason in KINDS)
SYMBOL, EVENT_TIME = literal(b'","symbol":"'), literal(b'","event_time_ns":')
NUMBERS = texts(
    (b',"quantity":', b',"reference_price":', b',"mid_price":', b',"position_before":', b',"position_after":')
)
N_NUMBERS = 5
TARGET, FEATURES = literal(b',"target_position":'), literal(b',"features":')
WARM, COLD = literal(b',"warm":true'), literal(b',"warm":false')
REGIMES, SIGNALS = literal(b',"regime_probabilities":'), literal(b',"strategy_signals":')
WEIGHTS = literal(b',"strategy_weights":')
NO_ANSWER = literal(b',"regime_probabilities":[],"strategy_signals":[],"strategy_weights":[]')
VERDICT, QUEUE = literal(b',"verdict":'), literal(b',"stages":{"queue_us":')
OUTCOME, OUTCOMES = literal(b'{"outcome":"'), texts((b"accept", b"clip", b"deny"))
ALLOWED, RESULTS = literal(b'","quantity":'), literal(b',"results":[')
RULE, RULES = literal(b'{"rule":"'), texts(name.encode() for name in NAMES)
HELD, BROKE = literal(b'","passed":true'), literal(b'","passed":false')
VALUE, LIMIT, HEADROOM = literal(b',"value":'), literal(b',"limit":'), literal(b',"headroom":')
DECIDED_AT, TRACE = literal(b'},"decided_at_ns":'), literal(b',"trace_id":"')
FILLS_TO, CONTROL_TO = literal(b'"' + wire.FILLS_TO), literal(wire.CONTROL_TO)
#: Of a verdict, whatever its rules say.
VERDICT_BYTES = 128 + len(RULES.text) + len(NAMES) * RESULT_BYTES


@inline
def copy(out: ByteArray, at: int, text: ByteArray) -> int:
    """The whole text; returns the place after it."""
    return copy_text(out, at, text, 0, len(text))


@inline
def copy_one(out: ByteArray, at: int, among: Texts, k: int) -> int:
    """Text k; returns the place after it."""
    return copy_text(out, at, among.text, among.ends[k], among.ends[k + 1])


@entry
def write(
    out: ByteArray,
    ends: Int64Array,
    evidence: EvidenceColumns,
    decided: DecisionColumns,
    numbers: ByteArray,
    shared: BatchTexts,
) -> int:
    """Write n decisions as JSON, one behind another; return the place after the last.

    Args:
        out: uint8, long enough, written.
        ends: int64 [n], written: the place after each decision.
        evidence, decided: of the n decisions.
        numbers: a JSON array of five numbers a decision: quantity, reference price, mid, position before, after.
        shared: what all of them share.
    """
    at, number = 0, 1
    for i in range(len(decided.kinds)):
        at = write_identity(out, at, evidence, shared, i)
        at = copy_one(out, at, KIND_TEXT, decided.kinds[i])
        quantity = number
        for k in range(N_NUMBERS):
            at = copy_one(out, at, NUMBERS, k)
            end = end_of_number(numbers, number)
            at = copy_text(out, at, numbers, number, end)
            number = end + 1
        at = write_answers(out, at, evidence, i)
        at = copy_one(out, at, evidence.served, evidence.served_rows[i])
        at = copy(out, at, VERDICT)
        if decided.outcomes[i] >= 0:
            allowed = numbers[quantity : end_of_number(numbers, quantity)]
            at = write_verdict(out, at, decided, i, allowed)
        else:
            at = copy(out, at, NULL)
        at = write_times(out, at, evidence, shared, i)
        at = write_integer(out, copy(out, at, FILLS_TO), evidence.fills_to[i])
        at = write_integer(out, copy(out, at, CONTROL_TO), evidence.control_to[i])
        out[at] = CLOSE_OBJECT
        at += 1
        ends[i] = at
    return at


@inline
def end_of_number(numbers: ByteArray, begin: int) -> int:
    """Where a number of the array ends."""
    end = begin
    while numbers[end] != COMMA and numbers[end] != CLOSE:
        end += 1
    return end


@inline
def write_identity(out: ByteArray, at: int, evidence: EvidenceColumns, shared: BatchTexts, i: int) -> int:
    """Id, symbol and event time."""
    at = write_integer(out, copy(out, at, shared.head), evidence.partitions[i])
    out[at] = MINUS
    at = write_integer(out, at + 1, evidence.offsets[i])
    at = copy_one(out, copy(out, at, SYMBOL), evidence.symbols, i)
    return write_integer(out, copy(out, at, EVENT_TIME), evidence.event_time_ns[i])


@inline
def write_answers(out: ByteArray, at: int, evidence: EvidenceColumns, i: int) -> int:
    """Target, features, and what the model answered to them."""
    at = write_float32(out, copy(out, at, TARGET), evidence.targets[i])
    at = write_row(out, copy(out, at, FEATURES), evidence.features[i])
    at = copy(out, at, WARM) if evidence.warm[i] else copy(out, at, COLD)
    row = evidence.answer_rows[i]
    if row < 0:
        return copy(out, at, NO_ANSWER)
    at = write_row(out, copy(out, at, REGIMES), evidence.regimes[row])
    at = write_row(out, copy(out, at, SIGNALS), evidence.signals[row])
    return write_row(out, copy(out, at, WEIGHTS), evidence.weights[row])


@inline
def write_verdict(out: ByteArray, at: int, decided: DecisionColumns, i: int, allowed: ByteArray) -> int:
    """A verdict, with the results of the rules that are on."""
    at = copy_one(out, copy(out, at, OUTCOME), OUTCOMES, decided.outcomes[i])
    at = copy(out, copy(out, at, ALLOWED), allowed)
    at = copy(out, at, RESULTS)
    results, first = decided.results[i], True
    for k in range(len(results)):
        if results[k] == OFF:
            continue
        if not first:
            out[at] = COMMA
            at += 1
        first = False
        at = write_result(out, at, k, results[k], decided.values[i, k], decided.limits[i, k])
    out[at], out[at + 1] = CLOSE, CLOSE_OBJECT
    return at + 2


@inline
def write_result(out: ByteArray, at: int, k: int, result: int, value: float, limit: float) -> int:
    """What rule k said."""
    at = copy_one(out, copy(out, at, RULE), RULES, k)
    at = copy(out, at, BROKE) if result == BROKEN else copy(out, at, HELD)
    at = write_double(out, copy(out, at, VALUE), value)
    at = write_double(out, copy(out, at, LIMIT), limit)
    at = write_double(out, copy(out, at, HEADROOM), limit - value)
    out[at] = CLOSE_OBJECT
    return at + 1


@inline
def write_times(out: ByteArray, at: int, evidence: EvidenceColumns, shared: BatchTexts, i: int) -> int:
    """Stage times, the wall time, and the trace id."""
    tenths = int(max(0.0, evidence.queue_us[i]) * 10.0 + 0.5)
    at = write_integer(out, copy(out, at, QUEUE), tenths // 10)
    out[at], out[at + 1] = DOT, ZERO + tenths % 10
    at = copy(out, at + 2, shared.stages)
    at = copy(out, copy(out, at, DECIDED_AT), shared.decided_at)
    at = copy(out, at, TRACE)
    if evidence.traces[i, 0]:
        return copy_text(out, at, evidence.traces[i], 0, TRACE_DIGITS)
    at = copy(out, at, shared.trace_prefix)
    at = write_hex(out, at, evidence.partitions[i], PARTITION_DIGITS)
    return write_hex(out, at, evidence.offsets[i], OFFSET_DIGITS)
