"""What would have been decided with another model's answers; and whether a model answers as it did."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

import msgspec
import numpy as np
from msgspec import Struct

from services.forensics.rebindings import rebindings_of
from services.forensics.replay_log import place_of
from services.forensics.replaying import state_before
from services.forensics.settings import ForensicsSettings
from services.forensics.store.reading import opened
from stack.workflows.asking import ModelPlace, ask
from stack.workflows.lived_ticks import lived_ticks
from trading.arrays import Float32Array
from trading.decision.schema import Decision, Reason
from trading.errors import ConfigurationError
from trading.models.prediction import Prediction
from trading.models.serving import GatewayStart, ServingFacts
from trading.replay.published import GIVEN
from trading.risk.limits import LimitsFile

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
        verdict: exact; or differs, where server, device and batches are those of then and the answers are not;
            or within_parity, beyond_parity or unknown_parity, where they are others, or nobody said what they were.
        others: what is another than at the gateway's start: then and now.
        recalled: whether the version was loaded for this, since it is not served.
    """

    model: str
    version: str
    decisions: int
    exact: int
    largest: float
    parity: float | None
    verdict: str
    others: list[str] = []
    recalled: bool = False


def features_of(decisions: Sequence[Decision]) -> Float32Array:
    """The recorded rows, float32 [n, features]."""
    return np.array([d.features for d in decisions], np.float32)


def decide_otherwise(
    settings: ForensicsSettings, place: ModelPlace, decision_id: str, limits: LimitsFile | None, model: str | None,
    advance: Callable[[int, int], None],
) -> tuple[Decision, Decision]:  # fmt: skip
    """A decision as it is on record, and as it would have been from the same book.

    Args:
        settings: of the trail.
        place: where models are asked.
        decision_id: TOPIC-PARTITION-OFFSET.
        limits: that would have held; None for those that did.
        model: NAME/VERSION that would have been asked; None for the recorded answers.
        advance: told how many ticks before it were taken, and of how many.

    Raises:
        ConfigurationError: there is no such decision, version, or its ticks are gone.
        ServiceUnavailable: a server does not answer.
    """
    partition, offset = place_of(decision_id, settings.ticks_topic)
    with opened(settings.reader_url.get_secret_value()) as reader:
        ticks = lived_ticks(settings, rebindings_of(reader, settings))
        before = state_before(reader, ticks, settings, partition, offset, advance)
    other = None if limits is None else before.base.like(limits).whole()
    recorded, answers = before.published.decision, None
    if model is not None:
        name, _, version = model.rpartition("/")
        if not name or not (version.isascii() and version.isdigit()):
            raise ConfigurationError(f"model {model}: give NAME/VERSION, as trading_decision/3")
        answers = with_answers(recorded, ask(place, name, version, features_of([recorded])).prediction, name)
    return recorded, before.replayer.otherwise(before.message, before.published, other, answers)


def with_answers(decision: Decision, prediction: Prediction, model: str) -> Decision:
    """A decision with another model's answers in the place of its own, of the first row."""
    usable = bool(prediction.valid[0])
    told = {name: getattr(prediction, name)[0].tolist() if usable else [] for name in ANSWERS}
    reason = decision.reason
    if reason in GIVEN:
        # Now there is an answer; what its time was does not count here.
        reason = Reason.TARGET if usable else Reason.PREDICTOR_INVALID
    target, version = float(prediction.target_position[0]) if usable else None, prediction.model_version
    return msgspec.structs.replace(
        decision, **told, target_position=target, model_name=model, model_version=version, reason=reason
    )


def check_answers(
    place: ModelPlace, decisions: Sequence[Decision], starts: Sequence[GatewayStart],
    parity_of: Mapping[tuple[str, str], float],
) -> list[AnswerCheck]:  # fmt: skip
    """Ask each recorded version for the recorded features, and compare.

    Args:
        place: where models are asked.
        decisions: those without an answer are left out.
        starts: what the gateways that decided said of themselves.
        parity_of: (model, version) -> the parity that it was released with, where that is known.

    Raises as `ask`.
    """
    by_version: dict[tuple[str, str], list[Decision]] = defaultdict(list)
    for decision in decisions:
        if decision.regime_probabilities:
            by_version[decision.model_name, decision.model_version].append(decision)
    found = []
    for (model, version), mine in sorted(by_version.items()):
        answered = ask(place, model, version, features_of(mine))
        then = in_force(starts, mine)
        exact, largest = compare_answers(mine, answered.prediction)
        parity, others = parity_of.get((model, version)), differences(then, answered.serving)
        verdict = verdict_of(exact == len(mine), largest, parity, same_serving=bool(then) and not others)
        found.append(
            AnswerCheck(model, version, len(mine), exact, largest, parity, verdict, others, answered.recalled)
        )
    return found


def in_force(starts: Sequence[GatewayStart], decisions: Sequence[Decision]) -> list[ServingFacts]:
    """What the gateways that may have made these decisions had said last, of those that asked their version.

    A decision does not name its gateway: of every instance the newest start before it that asks its version counts.
    """
    ordered, found = sorted(starts, key=lambda one: one.at_ns), dict[tuple[str, int], ServingFacts]()
    newest: dict[tuple[str, str, str], GatewayStart] = {}
    following = 0
    for decision in sorted(decisions, key=lambda one: one.decided_at_ns):
        while following < len(ordered) and ordered[following].at_ns <= decision.decided_at_ns:
            one = ordered[following]
            newest[one.instance, one.model_name, one.model_version] = one
            following += 1
        asked = decision.model_name, decision.model_version
        found |= {
            (s.instance, s.at_ns): s.serving for s in newest.values() if (s.model_name, s.model_version) == asked
        }
    return list(found.values())


def differences(then: Sequence[ServingFacts], now: ServingFacts) -> list[str]:
    """What is another now than in any of the starts on record, each said once."""
    return sorted({told for one in then for told in one.differences(now)})


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


def verdict_of(exact: bool, largest: float, parity: float | None, *, same_serving: bool) -> str:
    """In a word."""
    if exact:
        return "exact"
    if same_serving:
        return "differs"
    if parity is None:
        return "unknown_parity"
    return "within_parity" if largest <= parity else "beyond_parity"
