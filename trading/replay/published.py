"""A decision as it was published, and what of it is taken as given when it is made again."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from msgspec import Struct

from trading.arrays import CodeArray, Float32Array, FloatArray, Int64Array
from trading.decision.schema import CODES, Decision, Reason
from trading.decision.wire import decode_decision
from trading.errors import BadRecord, ConfigurationError
from trading.replay.comparison import DESK, QUOTA

#: Why a tick was held whatever its target: of time, or of the model. Who decides again takes them as they are.
GIVEN = frozenset(
    {
        Reason.DEADLINE, Reason.SUPERSEDED, Reason.PREDICTOR_TIMEOUT, Reason.PREDICTOR_UNAVAILABLE,
        Reason.PREDICTOR_INVALID,
    }
)  # fmt: skip
_NO_ANSWER = np.empty((0, 0), np.float32)


class Published(Struct, frozen=True):
    """A decision as it was published, and read."""

    payload: bytes
    decision: Decision


def published(payload: bytes) -> Published:
    """A decision as it was published. Raises ConfigurationError for one that cannot be read."""
    try:
        return Published(payload, decode_decision(payload))
    except BadRecord as error:
        raise ConfigurationError(f"a decision on record is none of this version: {error}") from error


def quota_of(published: Published) -> float:
    """Gross exposure that was reserved for the book, in money; NaN where it was not known.

    A decision of before it was recorded tells it by what it was judged by, to nine digits.
    """
    quota = published.decision.desk_quota
    if quota is None and QUOTA not in published.payload and published.decision.verdict is not None:
        told = [r.limit for r in published.decision.verdict.results if r.rule == DESK]
        quota = told[0] if told else None
    return math.nan if quota is None else quota


def held_of(decisions: Sequence[Decision]) -> CodeArray:
    """Why each was held for reasons that are not the book's; negative where it was not."""
    return np.array([CODES[d.reason] if d.reason in GIVEN else -1 for d in decisions], np.int8)


def targets_of(decisions: Sequence[Decision]) -> FloatArray:
    """The recorded targets, float64 [n], of the width that they were answered in; NaN where there was none."""
    told = [math.nan if d.target_position is None else d.target_position for d in decisions]
    return np.array(told, np.float32).astype(np.float64)


def answers_of(decisions: Sequence[Decision]) -> tuple[tuple[Float32Array, Float32Array, Float32Array], Int64Array]:
    """The recorded answers, float32 [., .] each, and the row of each decision in them; negative for none."""
    answered = [d for d in decisions if d.regime_probabilities]
    rows = np.full(len(decisions), -1, np.int64)
    rows[[k for k, d in enumerate(decisions) if d.regime_probabilities]] = np.arange(len(answered))
    if not answered:
        return (_NO_ANSWER, _NO_ANSWER, _NO_ANSWER), rows
    return (
        np.array([d.regime_probabilities for d in answered], np.float32),
        np.array([d.strategy_signals for d in answered], np.float32),
        np.array([d.strategy_weights for d in answered], np.float32),
    ), rows
