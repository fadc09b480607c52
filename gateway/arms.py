"""Whose a batch's rows are, and what they are decided by in the end; arrays alone, nobody is asked here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from msgspec import Struct, structs

from gateway.ports import RunningCanary
from trading.arrays import CodeArray, Float32Array, Int64Array
from trading.decision.schema import Reason
from trading.experiments.arms import Arm, Fallback
from trading.experiments.assignment import experiment_named, name_of
from trading.experiments.definition import CHAMPION
from trading.models.prediction import Prediction

#: Of units, that are remembered; a unit is met as often as it has ticks.
MOST_UNITS = 10_000
#: What became of a row: nobody was asked, its challenger answered; what follows are reasons why it did not.
UNASKED, ANSWERED = 0, 1
FALLBACKS = tuple(Fallback)
FALLBACK_CODES = {reason: code for code, reason in enumerate(FALLBACKS, ANSWERED + 1)}


class Answers(Struct, frozen=True):
    """What a batch's rows are decided by.

    Attributes:
        prediction: of the m rows that are not shed, in their order; None where there is none at all.
        failure: why rows that are not valid in it have no answer; TARGET where they have one, and it is wrong.
        arms: of the batch, with the versions that answered.
        arm_rows: int64 [n], which of them each row is decided by.
        waited_us: for the only challenger that was asked, beyond the champion's answer; 0 of several.
    """

    prediction: Prediction | None
    failure: Reason
    arms: Sequence[Arm]
    arm_rows: Int64Array
    waited_us: float = 0.0


class Unit(NamedTuple):
    """Whose rows are: the canary's place, the arm in it (0 for the champion), and the offset of its share."""

    canary: int
    arm: int
    offset: int


class Division:
    """Finds whose each row is; remembers units as long as the same canaries run."""

    def __init__(self) -> None:
        """Nothing was met yet."""
        self._running: Sequence[RunningCanary] = ()
        self._known: dict[tuple[int, str, int], tuple[int, int] | None] = {}

    def of(
        self, running: Sequence[RunningCanary], symbols: Sequence[str], event_time_ns: Int64Array
    ) -> dict[Unit, Int64Array]:
        """Rows of each kind of unit, int64 [.] each, in order; rows outside of every canary are in none."""
        if running is not self._running or len(self._known) > MOST_UNITS:
            self._running, self._known = running, {}
        found: dict[Unit, list[int]] = {}
        for place, canary in enumerate(running):
            divided = {symbol for symbol in set(symbols) if canary.arms.has(symbol)}
            if not divided:
                continue
            blocks: list[int] = (event_time_ns // canary.arms.block_ns).tolist()
            for row, (symbol, block) in enumerate(zip(symbols, blocks, strict=True)):
                if symbol not in divided:
                    continue
                key = (place, symbol, block)
                if key not in self._known:
                    self._known[key] = canary.arms.arm_of(symbol, block)
                if (arm := self._known[key]) is not None:
                    found.setdefault(Unit(place, *arm), []).append(row)
        return {unit: np.array(rows, np.int64) for unit, rows in found.items()}


class ChallengerAnswer(NamedTuple):
    """What a challenger said of its rows.

    Attributes:
        places: int64 [k], of its rows among the m that are not shed.
        said: of k rows; or why it said nothing.
    """

    places: Int64Array
    said: Prediction | Fallback

    @property
    def codes(self) -> CodeArray:
        """What became of each row, int8 [k]."""
        if isinstance(self.said, Fallback):
            return np.full(len(self.places), FALLBACK_CODES[self.said], np.int8)
        wrong = FALLBACK_CODES[Fallback.INVALID]
        return np.where(self.said.valid, np.int8(ANSWERED), np.int8(wrong))


def joined(
    champion: Answers,
    asked: Int64Array,
    running: Sequence[RunningCanary],
    units: Mapping[Unit, Int64Array],
    answers: Sequence[ChallengerAnswer],
) -> Answers:
    """What the rows are decided by, challengers' answers in the place of the champion's where they may be used.

    Args:
        champion: what it says, of one arm.
        asked: int64 [m], the rows that are not shed.
        running: canaries, by place.
        units: rows of each kind.
        answers: of the challengers that were asked.
    """
    (own,) = champion.arms
    outcome = np.full(len(champion.arm_rows), UNASKED, np.int8)
    for one in answers:
        outcome[asked[one.places]] = one.codes
    table, arm_rows = {own: 0}, champion.arm_rows.copy()
    for unit, rows in units.items():
        canary = running[unit.canary]
        for code in np.unique(outcome[rows]).tolist():
            arm = arm_of(canary, unit, code, own)
            arm_rows[rows[outcome[rows] == code]] = table.setdefault(arm, len(table))
    laid = [(one.places[one.said.valid], one.said) for one in answers if isinstance(one.said, Prediction)]
    prediction = overlaid(champion.prediction, len(asked), [one for one in laid if len(one[0])])
    return Answers(prediction, champion.failure, tuple(table), arm_rows)


def arm_of(canary: RunningCanary, unit: Unit, code: int, champion: Arm) -> Arm:
    """What rows of a unit were decided by, given what became of them."""
    told = name_of(canary.arms.name, unit.offset)
    if not unit.arm:
        return structs.replace(champion, experiment=told, assigned=CHAMPION)
    challenger = canary.challengers[unit.arm - 1]
    if code == ANSWERED:
        return structs.replace(challenger, experiment=told, assigned=challenger.variant)
    reason = "" if code == UNASKED else FALLBACKS[code - ANSWERED - 1].value
    return structs.replace(champion, experiment=told, assigned=challenger.variant, fallback=reason)


def overlaid(
    prediction: Prediction | None, count: int, laid: Sequence[tuple[Int64Array, Prediction]]
) -> Prediction | None:
    """An answer of `count` rows, other answers' valid rows at their places; as it is where there are none."""
    if not laid:
        return prediction
    base = prediction or nothing_like(laid[0][1], count)

    def column(name: str) -> Float32Array:
        whole: Float32Array = getattr(base, name).copy()
        for places, one in laid:
            whole[places] = getattr(one, name)[one.valid]
        # As a server's answers are: for another type compiled code would be compiled again, in mid-traffic.
        whole.flags.writeable = False
        return whole

    target, valid = base.target_position.copy(), base.valid.copy()
    for places, one in laid:
        target[places], valid[places] = one.target_position[one.valid], True
    return Prediction(
        column("regime_probabilities"), column("strategy_signals"), column("strategy_weights"), target, valid,
        base.model_version,
    )  # fmt: skip


def nothing_like(prediction: Prediction, count: int) -> Prediction:
    """An answer of `count` rows of which none may be used, as wide as another one."""

    def column(array: Float32Array) -> Float32Array:
        return np.zeros((count, array.shape[1]), np.float32)

    p = prediction
    return Prediction(
        column(p.regime_probabilities), column(p.strategy_signals), column(p.strategy_weights),
        np.full(count, np.nan), np.zeros(count, np.bool_), "",
    )  # fmt: skip


def count_by_arm(arms: Iterable[Arm], counts: Sequence[int]) -> dict[tuple[str, str, str], int]:
    """Rows of experiments: (experiment, assigned arm, why the champion decided) -> how many."""
    found: dict[tuple[str, str, str], int] = {}
    for arm, count in zip(arms, counts, strict=True):
        if arm.experiment and count:
            key = (experiment_named(arm.experiment), arm.assigned, arm.fallback)
            found[key] = found.get(key, 0) + count
    return found
