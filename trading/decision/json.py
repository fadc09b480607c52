"""Writes a batch's decisions as JSON at once; `schema.Decision` says what the fields mean."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from msgspec import Struct

from trading.arrays import BoolArray, ByteArray, Float32Array, FloatArray, Int64Array
from trading.decision import json_kernel, wire
from trading.decision.columns import DecisionColumns
from trading.decision.numbers import FLOAT_BYTES, literal
from trading.encoding import encode
from trading.experiments.arms import Arm
from trading.market import MAX_SYMBOL_LENGTH
from trading.risk.trading_state import TradingState

#: Bytes of a decision beside its floats, verdict and names: fields, integers, ids.
FIXED_BYTES = 910


class DecisionEvidence(Struct, frozen=True):
    """What n decisions carry beside what was decided; most as in `json_kernel.EvidenceColumns`.

    Attributes:
        symbols: as bytes.
        answers: regime probabilities, signals and weights, float32 [., .] each.
        arms: of the batch.
        arm_rows: int64 [n], the arm of each row.
        limits_versions: which limits held, in the partitions of the batch.
        desk_quotas: gross exposure reserved for their books, in money; NaN where it was not known.
        limits_rows: int64 [n], which of them for each row.
        trading_state: of the desk.
    """

    partitions: Int64Array
    offsets: Int64Array
    symbols: list[bytes]
    event_time_ns: Int64Array
    targets: FloatArray
    features: Float32Array
    warm: BoolArray
    answer_rows: Int64Array
    answers: tuple[Float32Array, Float32Array, Float32Array]
    arms: Sequence[Arm]
    arm_rows: Int64Array
    limits_versions: Sequence[str]
    desk_quotas: Sequence[float]
    limits_rows: Int64Array
    trading_state: TradingState
    queue_us: FloatArray
    traces: ByteArray
    fills_to: Int64Array
    control_to: Int64Array


class DecisionWriter:
    """Writes one topic's decisions; its buffer is used again, so one thread may use it at a time."""

    def __init__(self, topic: str, trace_prefix: str) -> None:
        self._head = literal(wire.HEAD + f"{topic}-".encode())
        self._trace_prefix = literal(trace_prefix.encode())
        self._out: ByteArray = np.empty(0, np.uint8)
        self._ends: Int64Array = np.empty(0, np.int64)

    def write(
        self,
        evidence: DecisionEvidence,
        decided: DecisionColumns,
        stages_us: tuple[float, float, float],
        decided_at_ns: int,
        waited_us: float = 0.0,
    ) -> list[bytes]:
        """The decisions as JSON.

        Args:
            evidence, decided: of n decisions.
            stages_us: features, inference and decide time of the batch.
            decided_at_ns: wall time, of all.
            waited_us: of the inference, for an experiment's challengers; left out where there was none.
        """
        n = len(decided.kinds)
        given = (decided.quantities, decided.prices, decided.mids, decided.before, decided.after)
        numbers = literal(msgspec.json.encode(np.column_stack(given).ravel().tolist()))
        columns = columns_of(evidence)
        self._make_room(n, size_of(columns, decided, len(numbers), len(self._head)))
        stages = ',"features_us":{:.1f},"inference_us":{:.1f},"decide_us":{:.1f}'.format(*stages_us)
        # A decision outside of experiments is what it was before there were any.
        stages += f',"waited_us":{waited_us:.1f}' if waited_us else ""
        shared = json_kernel.BatchTexts(
            self._head,
            literal(stages.encode()),
            literal(str(decided_at_ns).encode()),
            self._trace_prefix,
        )
        end = json_kernel.write(self._out, self._ends, columns, decided, numbers, shared)
        whole = self._out[:end].tobytes()
        ends: list[int] = self._ends[:n].tolist()
        return [whole[a:b] for a, b in zip([0, *ends], ends, strict=False)]

    def _make_room(self, rows: int, size: int) -> None:
        if size > len(self._out):
            self._out = np.empty(2 * size, np.uint8)
        if rows > len(self._ends):
            self._ends = np.empty(2 * rows, np.int64)


def columns_of(evidence: DecisionEvidence) -> json_kernel.EvidenceColumns:
    """As compiled code takes them."""
    e, held = evidence, list(zip(evidence.limits_versions, evidence.desk_quotas, strict=True))
    served = json_kernel.texts(
        served_fields(arm, e.trading_state, version, quota) for arm in e.arms for version, quota in held
    )
    return json_kernel.EvidenceColumns(
        partitions=e.partitions,
        offsets=e.offsets,
        symbols=json_kernel.texts(e.symbols),
        event_time_ns=e.event_time_ns,
        targets=e.targets,
        features=e.features,
        warm=e.warm,
        answer_rows=e.answer_rows,
        regimes=e.answers[0],
        signals=e.answers[1],
        weights=e.answers[2],
        served=served,
        served_rows=e.arm_rows * len(held) + e.limits_rows,
        queue_us=e.queue_us,
        traces=e.traces,
        fills_to=e.fills_to,
        control_to=e.control_to,
    )


def served_fields(arm: Arm, trading_state: TradingState, limits_version: str, desk_quota: float) -> bytes:
    """The fields from the model's name to what the arm was assigned by."""
    values = {
        "model_name": arm.model_name,
        "model_version": arm.model_version,
        "variant": arm.variant,
        "trading_state": trading_state,
        "limits_version": limits_version,
        # null for NaN.
        "desk_quota": desk_quota,
    }
    if arm.experiment:
        # Left out elsewhere: a decision outside of experiments is what it was before there were any.
        values |= {"experiment": arm.experiment, "assigned": arm.assigned, "fallback": arm.fallback}
    return b"".join(b',"%b":%b' % (name.encode(), encode(value)) for name, value in values.items())


def size_of(
    columns: json_kernel.EvidenceColumns, decided: DecisionColumns, numbers_bytes: int, head_bytes: int
) -> int:
    """Bytes that the decisions take at most."""
    c, n = columns, len(decided.kinds)
    floats = c.features.shape[1] + 1 + sum(a.shape[1] for a in (c.regimes, c.signals, c.weights))
    longest = int(np.diff(c.served.ends).max(initial=0))
    each = FIXED_BYTES + floats * (FLOAT_BYTES + 1) + MAX_SYMBOL_LENGTH + head_bytes + longest
    judged = int(np.count_nonzero(decided.outcomes >= 0))
    return n * each + numbers_bytes + judged * json_kernel.VERDICT_BYTES
