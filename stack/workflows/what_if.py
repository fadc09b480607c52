"""What would have been decided with another model's answers; and whether a model answers as it did."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct

from gateway.adapters.triton import TritonPredictor
from gateway.warm_up import probe_rows, probe_ticks
from services.forensics.replay_log import place_of
from services.forensics.replaying import base_limits, state_before
from services.forensics.settings import ForensicsSettings
from services.forensics.store.reading import opened
from stack.workflows.lived_ticks import lived_ticks
from trading.arrays import Float32Array
from trading.decision.schema import Decision, Reason
from trading.errors import ConfigurationError, ContractMismatch, PredictionError, ServiceUnavailable
from trading.models.prediction import Prediction
from trading.replay.published import GIVEN
from trading.risk.limits import LimitsFile

#: Rows of a call; more than the gateway's batches under load, and few enough for any model's memory.
ROWS = 256
ASK_S = 10.0
ANSWERS = ("regime_probabilities", "strategy_signals", "strategy_weights")


class AnswerCheck(Struct, frozen=True):
    """How a version answers the recorded features now.

    Attributes:
        model, version: that was asked.
        decisions: with an answer of it on record.
        exact: whose answers are the same to the last bit.
        largest: difference of any number.
        within: whether that is within the parity that the version was released with.
        parity: that bound; None where no lineage tells it.
        verdict: exact, within_parity, beyond_parity or unknown_parity.
    """

    model: str
    version: str
    decisions: int
    exact: int
    largest: float
    parity: float | None
    verdict: str


def ask(address: str, model: str, version: str, features: Float32Array) -> Prediction:
    """What a version answers to rows, float32 [n, features].

    Raises:
        ConfigurationError: it is not served, or is no model of the gateway.
        ServiceUnavailable: Triton does not answer.
    """
    try:
        with closing(TritonPredictor(address, model, version)) as predictor:
            # As a gateway does at its start: batches of a size with which no answer depends on the company.
            predictor.settle_rows(probe_rows(probe_ticks()))
            parts = [predictor.predict(features[k : k + ROWS], ASK_S) for k in range(0, len(features), ROWS)]
    except ContractMismatch as error:
        raise ConfigurationError(
            f"{error}: a version that is not served can be released again, or asked of another Triton"
        ) from error
    except PredictionError as error:
        raise ServiceUnavailable(f"{model} version {version} does not answer: {error}") from error

    def column(name: str) -> Any:
        return np.concatenate([getattr(part, name) for part in parts])

    regimes, signals, weights = map(column, ANSWERS)
    return Prediction(regimes, signals, weights, column("target_position"), column("valid"), (version,))


def features_of(decisions: Sequence[Decision]) -> Float32Array:
    """The recorded rows, float32 [n, features]."""
    return np.array([d.features for d in decisions], np.float32)


def decide_otherwise(
    settings: ForensicsSettings, address: str, decision_id: str, limits: LimitsFile | None, model: str | None,
    advance: Callable[[int, int], None],
) -> tuple[Decision, Decision]:  # fmt: skip
    """A decision as it is on record, and as it would have been from the same book.

    Args:
        settings: of the trail.
        address: of Triton's gRPC.
        decision_id: TOPIC-PARTITION-OFFSET.
        limits: that would have held; None for those that did.
        model: NAME/VERSION that would have been asked; None for the recorded answers.
        advance: told how many ticks before it were taken, and of how many.

    Raises:
        ConfigurationError: there is no such decision, version, or its ticks are gone.
        ServiceUnavailable: a server does not answer.
    """
    ticks = lived_ticks(settings)
    other = None if limits is None else base_limits(settings, ticks).like(limits).whole()
    place = place_of(decision_id, settings.ticks_topic)
    with opened(settings.reader_url.get_secret_value()) as reader:
        before = state_before(reader, ticks, settings, *place, advance)
    recorded, answers = before.published.decision, None
    if model is not None:
        name, _, version = model.rpartition("/")
        if not name or not (version.isascii() and version.isdigit()):
            raise ConfigurationError(f"model {model}: give NAME/VERSION, as trading_decision/3")
        answers = with_answers(recorded, ask(address, name, version, features_of([recorded])), name)
    return recorded, before.replayer.otherwise(before.message, before.published, other, answers)


def with_answers(decision: Decision, prediction: Prediction, model: str) -> Decision:
    """A decision with another model's answers in the place of its own, of the first row."""
    usable = bool(prediction.valid[0])
    told = {name: getattr(prediction, name)[0].tolist() if usable else [] for name in ANSWERS}
    reason = decision.reason
    if reason in GIVEN:
        # Now there is an answer; what its time was does not count here.
        reason = Reason.TARGET if usable else Reason.PREDICTOR_INVALID
    target, version = float(prediction.target_position[0]) if usable else None, prediction.model_versions[0]
    return msgspec.structs.replace(
        decision, **told, target_position=target, model_name=model, model_version=version, reason=reason
    )


def check_answers(
    address: str, decisions: Sequence[Decision], parity_of: dict[tuple[str, str], float]
) -> list[AnswerCheck]:
    """Ask each recorded version for the recorded features, and compare.

    Args:
        address: of Triton's gRPC.
        decisions: those without an answer are left out.
        parity_of: (model, version) -> the parity that it was released with, where that is known.

    Raises as `ask`.
    """
    by_version: dict[tuple[str, str], list[Decision]] = defaultdict(list)
    for decision in decisions:
        if decision.regime_probabilities:
            by_version[decision.model_name, decision.model_version].append(decision)
    found = []
    for (model, version), mine in sorted(by_version.items()):
        answered = ask(address, model, version, features_of(mine))
        exact, largest = compare_answers(mine, answered)
        parity = parity_of.get((model, version))
        found.append(
            AnswerCheck(
                model, version, len(mine), exact, largest, parity, verdict_of(exact == len(mine), largest, parity)
            )
        )
    return found


def compare_answers(decisions: Sequence[Decision], answered: Prediction) -> tuple[int, float]:
    """How many rows are the same to the last bit, and the largest difference of any number."""
    exact = np.ones(len(decisions), np.bool_)
    largest = 0.0
    columns = [(np.array([getattr(d, n) for d in decisions], np.float32), getattr(answered, n)) for n in ANSWERS]
    targets = np.array([d.target_position for d in decisions], np.float32)
    columns.append((targets[:, None], answered.target_position.astype(np.float32)[:, None]))
    for recorded, now in columns:
        exact &= (recorded.view(np.uint32) == np.ascontiguousarray(now, np.float32).view(np.uint32)).all(axis=1)
        apart = np.abs(recorded.astype(np.float64) - now)
        # What is no number is as far off as can be.
        largest = max(largest, float(np.where(np.isnan(apart), np.inf, apart).max(initial=0.0)))
    return int(exact.sum()), largest if answered.valid.all() else np.inf


def verdict_of(exact: bool, largest: float, parity: float | None) -> str:
    """In a word."""
    if exact:
        return "exact"
    if parity is None:
        return "unknown_parity"
    return "within_parity" if largest <= parity else "beyond_parity"
