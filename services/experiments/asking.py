"""Arms asked for the rows that the desk decided, off its path: patiently, and never about a tick again."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from services.experiments.arm_book import ArmAnswers
from services.experiments.call_budget import CallBudget
from services.experiments.partition_shadow import LIVE, of_challenger, recorded_answers
from services.experiments.ports import ChallengerModel, Clock
from trading.arrays import CodeArray, FloatArray
from trading.decision.schema import CODES, Decision, Reason
from trading.errors import InvalidPrediction, PredictionError, ServiceUnavailable
from trading.experiments.definition import CHAMPION, ServedModel
from trading.replay.published import held_of

INVALID = CODES[Reason.PREDICTOR_INVALID]
CALL_S = 5.0
#: A model that does not answer is asked again for so long: a server that is away is no fault of the model's.
PATIENCE_S, AGAIN_S = 30.0, 0.5


class ArmModel:
    """What an arm's model says of what the desk decided: as it is on record where it decided, else it is asked."""

    def __init__(self, arm: str, served: ServedModel, asked: PatientModel) -> None:
        """Nothing was asked yet.

        Args:
            arm: whose model it is.
            served: name and version.
            asked: where the record does not say.
        """
        self._is_champion, self._asked = arm == CHAMPION, asked
        self._served = (served.model, str(served.version))

    def answers(self, decisions: Sequence[Decision]) -> ArmAnswers:
        """Of n rows. Raises ServiceUnavailable where it gives no answer for long."""
        found = recorded_answers(decisions)
        lacking = [k for k, d in enumerate(decisions) if not self._decided(d)]
        if lacking:
            asked = self._asked.answers([decisions[k] for k in lacking])
            found.targets[lacking], found.held[lacking] = asked.targets, asked.held
        return found

    def _decided(self, decision: Decision) -> bool:
        """Whether the record is of this model: what nobody could answer is the champion's."""
        if self._is_champion:
            return not of_challenger(decision)
        return (decision.model_name, decision.model_version) == self._served


class PatientModel:
    """Asks one challenger."""

    def __init__(
        self,
        arm: str,
        model: ChallengerModel,
        budget: CallBudget,
        clock: Clock,
        given_up: Callable[[], bool] = lambda: False,
    ) -> None:
        """Nothing was asked yet.

        Args:
            arm: whose model it is.
            model: that is asked.
            budget: that all challengers share.
            clock: of waits.
            given_up: whether nobody wants its answers any more.
        """
        self._arm, self._model, self._budget, self._clock = arm, model, budget, clock
        self._given_up = given_up

    def answers(self, decisions: Sequence[Decision]) -> ArmAnswers:
        """What it says of n rows; those that the live path held for time or for want of a server are not asked.

        Raises ServiceUnavailable where it gives no answer for long.
        """
        n, held = len(decisions), held_of(decisions)
        found = ArmAnswers(np.full(n, np.nan), np.full(n, -1, np.int8))
        asked = np.flatnonzero(~np.isin(held, LIVE))
        begin = 0
        while begin < len(asked):
            # As many as the desk does not feel.
            rows = asked[begin : begin + self._budget.rows]
            begin += len(rows)
            features = np.array([decisions[k].features for k in rows.tolist()], np.float32)
            found.targets[rows], found.held[rows] = self._ask(features)
        return found

    def _ask(self, features: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> tuple[FloatArray, CodeArray]:
        """Targets, and why rows are held. Raises ServiceUnavailable where nothing answers for long."""
        n, since_s = len(features), self._seconds()
        while True:
            while not self._budget.wait():
                self._refuse_unwanted("and it is not asked")
            self._refuse_unwanted("and it is not asked")
            began_s = self._seconds()
            try:
                prediction = self._model.predict(features, CALL_S)
            except InvalidPrediction:
                self._budget.called(self._seconds() - began_s, n)
                return np.full(n, np.nan), np.full(n, INVALID, np.int8)
            except PredictionError as error:
                self._refuse_unwanted(str(error))
                if self._seconds() - since_s > PATIENCE_S:
                    raise ServiceUnavailable(
                        f"challenger {self._arm} gives no answer for {PATIENCE_S:.0f} s: {error}"
                    ) from error
            else:
                self._budget.called(self._seconds() - began_s, n)
                held = np.where(prediction.valid, np.int8(-1), np.int8(INVALID))
                # Of the width that it was answered in, as the desk's are.
                targets = prediction.target_position.astype(np.float32).astype(np.float64)
                return np.where(prediction.valid, targets, np.nan), held
            self._budget.called(self._seconds() - began_s, 0)
            self._clock.sleep(AGAIN_S)

    def _refuse_unwanted(self, why: str) -> None:
        """Raises ServiceUnavailable where nobody wants its answers any more."""
        if self._given_up():
            raise ServiceUnavailable(f"challenger {self._arm}: nobody wants its answers any more, {why}")

    def _seconds(self) -> float:
        return self._clock.monotonic_ns() / 1e9
