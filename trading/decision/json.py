"""A batch's decisions as JSON, written at once; `Decision` in `schemas.py` says what the fields mean."""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Struct

from trading.arrays import BoolArray, Float32Array, FloatArray, Int64Array
from trading.decision import json_kernel
from trading.decision.numbers import FLOAT_BYTES, literal
from trading.decision.schema import REASONS, Action, Reason
from trading.market import MAX_SYMBOL_LENGTH
from trading.risk.engine import NAMES
from trading.risk.trading_state import TradingState
from trading.wire import encode

Bytes = npt.NDArray[np.uint8]
Codes = npt.NDArray[np.int8]

#: What an action and its reason may be; a reason's own code is that of a HOLD for it.
KINDS = (
    *((Action.HOLD, reason) for reason in REASONS),
    (Action.BUY, Reason.TARGET),
    (Action.SELL, Reason.TARGET),
)
BUY, SELL = len(REASONS), len(REASONS) + 1
_KIND_FIELDS = [f',"action":"{action}","reason":"{reason}"'.encode() for action, reason in KINDS]
_KIND_TEXTS, _KIND_ENDS = literal(b"".join(_KIND_FIELDS)), np.cumsum([len(f) for f in _KIND_FIELDS])
RULES = literal("".join(NAMES).encode())
RULE_ENDS = np.cumsum([0, *map(len, NAMES)])
#: Of a verdict, whatever its rules say.
VERDICT_BYTES = 128 + len(RULES) + len(NAMES) * json_kernel.RESULT_BYTES
#: Bytes of a decision beside its floats, verdict and names: fields, integers, ids.
_FIXED_BYTES = 880


class Columns(Struct, frozen=True):
    """n decisions.

    Attributes:
        partitions, offsets: int64 [n], of the ticks.
        symbols: as bytes.
        event_time_ns: int64 [n].
        kinds: int8 [n], places in `KINDS`.
        numbers: float64 [n, 5]: quantity, reference price, mid, position before and after; NaN is unknown.
        targets: float64 [n], NaN where there is none.
        features: float32 [n, .].
        warm: bool [n].
        answer_rows: int64 [n], row in `answers`; negative where there is none.
        answers: regime probabilities, signals and weights, float32 [., .] each.
        outcomes: int8 [n], of the verdict; negative where no order was wanted.
        results: int8 [n, rules]; values, limits: float64 [n, rules], what each rule said.
        queue_us: float64 [n].
        traces: uint8 [n, 32], trace ids of the producers; first byte 0 where there is none.
        fills_to, control_to: int64 [n], what the book had taken of the broker's reports and of the control topic.
    """

    partitions: Int64Array
    offsets: Int64Array
    symbols: list[bytes]
    event_time_ns: Int64Array
    kinds: Codes
    numbers: FloatArray
    targets: FloatArray
    features: Float32Array
    warm: BoolArray
    answer_rows: Int64Array
    answers: tuple[Float32Array, Float32Array, Float32Array]
    outcomes: Codes
    results: Codes
    values: FloatArray
    limits: FloatArray
    queue_us: FloatArray
    traces: Bytes
    fills_to: Int64Array
    control_to: Int64Array


class DecisionWriter:
    """Writes one topic's decisions; its buffer is used again, so one thread may use it at a time."""

    def __init__(self, topic: str, trace_prefix: str, model_name: str, variant: str) -> None:
        self._topic = literal(f'{{"decision_id":"{topic}-'.encode())
        self._trace_prefix = literal(trace_prefix.encode())
        self._model_name, self._variant = model_name, variant
        self._out: Bytes = np.empty(0, np.uint8)
        self._ends: Int64Array = np.empty(0, np.int64)

    def write(
        self,
        columns: Columns,
        model_version: str,
        trading_state: TradingState,
        stages_us: tuple[float, float, float],
        decided_at_ns: int,
        limits_version: str,
    ) -> list[bytes]:
        """The decisions as JSON.

        Args:
            columns: what differs from one to the next.
            model_version, trading_state: of all.
            stages_us: features, inference and decide time of the batch.
            decided_at_ns, limits_version: of all.
        """
        c, n = columns, len(columns.kinds)
        numbers = literal(msgspec.json.encode(c.numbers.ravel().tolist()))
        judged = int(np.count_nonzero(c.outcomes >= 0))
        served = self._served(model_version, trading_state, limits_version)
        floats = c.features.shape[1] + 1 + sum(a.shape[1] for a in c.answers)
        each = _FIXED_BYTES + floats * (FLOAT_BYTES + 1) + MAX_SYMBOL_LENGTH
        each += len(self._topic) + len(served)
        self._make_room(n, n * each + len(numbers) + judged * VERDICT_BYTES)
        end = json_kernel.write(
            self._out,
            self._ends,
            self._topic,
            c.partitions,
            c.offsets,
            literal(b"".join(c.symbols)),
            np.cumsum([len(symbol) for symbol in c.symbols]),
            c.event_time_ns,
            c.kinds,
            _KIND_TEXTS,
            _KIND_ENDS,
            numbers,
            c.targets,
            c.features,
            c.warm,
            c.answer_rows,
            *c.answers,
            literal(served),
            c.outcomes,
            c.results,
            c.values,
            c.limits,
            RULES,
            RULE_ENDS,
            c.queue_us,
            literal(',"features_us":{:.1f},"inference_us":{:.1f},"decide_us":{:.1f}'.format(*stages_us).encode()),
            decided_at_ns,
            self._trace_prefix,
            c.traces,
            c.fills_to,
            c.control_to,
        )
        whole = self._out[:end].tobytes()
        ends: list[int] = self._ends[:n].tolist()
        return [whole[a:b] for a, b in zip([0, *ends], ends, strict=False)]

    def _served(self, model_version: str, trading_state: TradingState, limits_version: str) -> bytes:
        texts = (self._model_name, model_version, self._variant, trading_state, limits_version)
        fields = ("model_name", "model_version", "variant", "trading_state", "limits_version")
        return b"".join(
            b',"%b":%b' % (name.encode(), encode(text)) for name, text in zip(fields, texts, strict=True)
        )

    def _make_room(self, rows: int, size: int) -> None:
        if size > len(self._out):
            self._out = np.empty(2 * size, np.uint8)
        if rows > len(self._ends):
            self._ends = np.empty(2 * rows, np.int64)
