"""Decisions as JSON, written into one buffer by compiled code."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from trading.arrays import BoolArray, Float32Array, FloatArray, Int64Array
from trading.decision.numbers import (
    CLOSE,
    CLOSE_OBJECT,
    COMMA,
    DOT,
    FLOAT_BYTES,
    MINUS,
    NULL,
    ZERO,
    Bytes,
    _copy,
    _write_double,
    _write_hex,
    _write_row,
    literal,
    write_float32,
    write_integer,
)

Codes = npt.NDArray[np.int8]
#: A rule's result: see `risk.model`.
OFF = 2
HYPHEN = MINUS
#: Hexadecimal digits that a trace id ends with: the tick's partition and offset.
PARTITION_DIGITS, OFFSET_DIGITS = 4, 12
SYMBOL, EVENT_TIME = literal(b'","symbol":"'), literal(b'","event_time_ns":')
NUMBER_FIELDS = (
    b',"quantity":', b',"reference_price":', b',"mid_price":', b',"position_before":', b',"position_after":',
)  # fmt: skip
NUMBERS = literal(b"".join(NUMBER_FIELDS))
NUMBER_ENDS = np.cumsum([0, *map(len, NUMBER_FIELDS)])
TARGET, FEATURES = literal(b',"target_position":'), literal(b',"features":')
WARM, COLD = literal(b',"warm":true'), literal(b',"warm":false')
REGIMES, SIGNALS = literal(b',"regime_probabilities":'), literal(b',"strategy_signals":')
WEIGHTS = literal(b',"strategy_weights":')
NO_ANSWER = literal(b',"regime_probabilities":[],"strategy_signals":[],"strategy_weights":[]')
VERDICT, QUEUE = literal(b',"verdict":'), literal(b',"stages":{"queue_us":')
OUTCOME_TEXTS = (b"accept", b"clip", b"deny")
OUTCOME, OUTCOMES = literal(b'{"outcome":"'), literal(b"".join(OUTCOME_TEXTS))
OUTCOME_ENDS = np.cumsum([0, *map(len, OUTCOME_TEXTS)])
ALLOWED, RESULTS = literal(b'","quantity":'), literal(b',"results":[')
RULE, HELD, BROKE = literal(b'{"rule":"'), literal(b'","passed":true'), literal(b'","passed":false')
VALUE, LIMIT, HEADROOM = literal(b',"value":'), literal(b',"limit":'), literal(b',"headroom":')
#: Of a rule's result beside its name.
RESULT_BYTES = 3 * FLOAT_BYTES + 64
DECIDED_AT, TRACE = literal(b'},"decided_at_ns":'), literal(b',"trace_id":"')
#: Last, so that they are found from the end.
FILLS_TO, CONTROL_TO = literal(b'","fills_to":'), literal(b',"control_to":')


@njit(cache=True, nogil=True)
def _write_verdict(
    out: Bytes,
    at: int,
    outcome: int,
    quantity: Bytes,
    results: Codes,
    values: FloatArray,
    limits: FloatArray,
    rules: Bytes,
    rule_ends: Int64Array,
) -> int:
    """A verdict, with the results of the rules that are on."""
    at = _copy(out, at, OUTCOME, 0, len(OUTCOME))
    at = _copy(out, at, OUTCOMES, OUTCOME_ENDS[outcome], OUTCOME_ENDS[outcome + 1])
    at = _copy(out, at, ALLOWED, 0, len(ALLOWED))
    at = _copy(out, at, quantity, 0, len(quantity))
    at = _copy(out, at, RESULTS, 0, len(RESULTS))
    first = True
    for k in range(len(results)):
        if results[k] == OFF:
            continue
        if not first:
            out[at] = COMMA
            at += 1
        first = False
        at = _copy(out, at, RULE, 0, len(RULE))
        at = _copy(out, at, rules, rule_ends[k], rule_ends[k + 1])
        at = _copy(out, at, BROKE, 0, len(BROKE)) if results[k] == 0 else _copy(out, at, HELD, 0, len(HELD))
        at = _write_double(out, _copy(out, at, VALUE, 0, len(VALUE)), values[k])
        at = _write_double(out, _copy(out, at, LIMIT, 0, len(LIMIT)), limits[k])
        at = _write_double(out, _copy(out, at, HEADROOM, 0, len(HEADROOM)), limits[k] - values[k])
        out[at] = CLOSE_OBJECT
        at += 1
    out[at], out[at + 1] = CLOSE, CLOSE_OBJECT
    return at + 2


@njit(cache=True, nogil=True)
def write(
    out: Bytes,
    ends: Int64Array,
    topic: Bytes,
    partitions: Int64Array,
    offsets: Int64Array,
    symbols: Bytes,
    symbol_ends: Int64Array,
    event_time_ns: Int64Array,
    kinds: Codes,
    kind_texts: Bytes,
    kind_ends: Int64Array,
    numbers: Bytes,
    targets: FloatArray,
    features: Float32Array,
    warm: BoolArray,
    answer_rows: Int64Array,
    regimes: Float32Array,
    signals: Float32Array,
    weights: Float32Array,
    served: Bytes,
    outcomes: Codes,
    results: Codes,
    values: FloatArray,
    limits: FloatArray,
    rules: Bytes,
    rule_ends: Int64Array,
    queue_us: FloatArray,
    stages: Bytes,
    decided_at_ns: int,
    trace_prefix: Bytes,
    traces: Bytes,
    fills_to: Int64Array,
    control_to: Int64Array,
) -> int:
    """Write n decisions as JSON, one behind another; return the place after the last.

    Args:
        out: uint8, long enough, written.
        ends: int64 [n], written: the place after each decision.
        topic: of the ticks, as a decision begins.
        partitions, offsets: int64 [n], of the ticks.
        symbols, symbol_ends: symbols, one behind another, and int64 [n] where each ends.
        event_time_ns: int64 [n].
        kinds: int8 [n], which of `kind_texts` tells action and reason.
        kind_texts, kind_ends: JSON fields, one behind another, and where each ends.
        numbers: a JSON array of five numbers a decision: quantity, reference price, mid, position before, after.
        targets: float64 [n], NaN where there is none.
        features: float32 [n, .].
        warm: bool [n].
        answer_rows: int64 [n], row in the model's answers; negative where there is none.
        regimes, signals, weights: float32 [., .], the model's answers.
        served: the fields from the model's name to the trading state.
        outcomes: int8 [n], of the verdict; negative where no order was wanted.
        results: int8 [n, rules]; values, limits: float64 [n, rules].
        rules, rule_ends: the rules' names, one behind another, and int64 [rules + 1] where each begins and ends.
        queue_us: float64 [n].
        stages: the fields of the other stage times.
        decided_at_ns: of all.
        trace_prefix: what a trace id of the topic begins with.
        traces: uint8 [n, 32], trace ids of the producers; first byte 0 where there is none.
        fills_to, control_to: int64 [n], what the book had taken of the broker's reports and of the control topic.
    """
    at, number, symbol = 0, 1, 0
    for i in range(len(kinds)):
        at = _copy(out, at, topic, 0, len(topic))
        at = write_integer(out, at, partitions[i])
        out[at] = HYPHEN
        at = write_integer(out, at + 1, offsets[i])
        at = _copy(out, at, SYMBOL, 0, len(SYMBOL))
        at = _copy(out, at, symbols, symbol, symbol_ends[i])
        symbol = symbol_ends[i]
        at = _copy(out, at, EVENT_TIME, 0, len(EVENT_TIME))
        at = write_integer(out, at, event_time_ns[i])
        kind, quantity = kinds[i], number
        at = _copy(out, at, kind_texts, kind_ends[kind - 1] if kind else 0, kind_ends[kind])
        for k in range(5):
            at = _copy(out, at, NUMBERS, NUMBER_ENDS[k], NUMBER_ENDS[k + 1])
            while numbers[number] != COMMA and numbers[number] != CLOSE:
                out[at] = numbers[number]
                at += 1
                number += 1
            number += 1
        at = _copy(out, at, TARGET, 0, len(TARGET))
        at = write_float32(out, at, targets[i])
        at = _copy(out, at, FEATURES, 0, len(FEATURES))
        at = _write_row(out, at, features[i])
        at = _copy(out, at, WARM, 0, len(WARM)) if warm[i] else _copy(out, at, COLD, 0, len(COLD))
        row = answer_rows[i]
        if row < 0:
            at = _copy(out, at, NO_ANSWER, 0, len(NO_ANSWER))
        else:
            at = _copy(out, at, REGIMES, 0, len(REGIMES))
            at = _write_row(out, at, regimes[row])
            at = _copy(out, at, SIGNALS, 0, len(SIGNALS))
            at = _write_row(out, at, signals[row])
            at = _copy(out, at, WEIGHTS, 0, len(WEIGHTS))
            at = _write_row(out, at, weights[row])
        at = _copy(out, at, served, 0, len(served))
        at = _copy(out, at, VERDICT, 0, len(VERDICT))
        if outcomes[i] >= 0:
            end = quantity
            while numbers[end] != COMMA:
                end += 1
            at = _write_verdict(
                out, at, outcomes[i], numbers[quantity:end], results[i], values[i], limits[i], rules, rule_ends
            )
        else:
            at = _copy(out, at, NULL, 0, len(NULL))
        at = _copy(out, at, QUEUE, 0, len(QUEUE))
        tenths = int(max(0.0, queue_us[i]) * 10.0 + 0.5)
        at = write_integer(out, at, tenths // 10)
        out[at], out[at + 1] = DOT, ZERO + tenths % 10
        at = _copy(out, at + 2, stages, 0, len(stages))
        at = _copy(out, at, DECIDED_AT, 0, len(DECIDED_AT))
        at = write_integer(out, at, decided_at_ns)
        at = _copy(out, at, TRACE, 0, len(TRACE))
        if traces[i, 0]:
            at = _copy(out, at, traces[i], 0, 32)
        else:
            at = _copy(out, at, trace_prefix, 0, len(trace_prefix))
            at = _write_hex(out, at, partitions[i], PARTITION_DIGITS)
            at = _write_hex(out, at, offsets[i], OFFSET_DIGITS)
        at = write_integer(out, _copy(out, at, FILLS_TO, 0, len(FILLS_TO)), fills_to[i])
        at = write_integer(out, _copy(out, at, CONTROL_TO, 0, len(CONTROL_TO)), control_to[i])
        out[at] = CLOSE_OBJECT
        at += 1
        ends[i] = at
    return at
