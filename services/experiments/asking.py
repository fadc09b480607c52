"""A challenger asked for the rows that the desk decided, off its path: patiently, and never about a tick again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import structlog

from services.experiments.arm_book import ArmAnswers
from services.experiments.call_budget import CallBudget
from services.experiments.partition_shadow import LIVE
from services.experiments.ports import ChallengerModel, Clock
from trading.arrays import CodeArray, FloatArray
from trading.decision.schema import CODES, Decision, Reason
from trading.errors import InvalidPrediction, PredictionError, PredictorTimeout
from trading.replay.published import held_of

log = structlog.get_logger()
#: Rows of a call: few enough not to be felt by whoever asks beside.
ROWS = 256
CALL_S = 5.0
#: A model that does not answer is asked again for so long; then its rows are errors, until it answers again.
PATIENCE_S, AGAIN_S = 30.0, 0.5


class PatientModel:
    """Asks one challenger."""

    def __init__(self, arm: str, model: ChallengerModel, budget: CallBudget, clock: Clock) -> None:
        """Nothing was asked yet.

        Args:
            arm: whose model it is.
            model: that is asked.
            budget: that all challengers share.
            clock: of waits.
        """
        self._arm, self._model, self._budget, self._clock = arm, model, budget, clock
        self._lost = False

    def answers(self, decisions: Sequence[Decision]) -> ArmAnswers:
        """What it says of n rows; those that the live path held for time or for want of a server are not asked."""
        n, held = len(decisions), held_of(decisions)
        found = ArmAnswers(np.full(n, np.nan), np.full(n, -1, np.int8))
        asked = np.flatnonzero(~np.isin(held, LIVE))
        for begin in range(0, len(asked), ROWS):
            rows = asked[begin : begin + ROWS]
            features = np.array([decisions[k].features for k in rows.tolist()], np.float32)
            found.targets[rows], found.held[rows] = self._ask(features)
        return found

    def _ask(self, features: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> tuple[FloatArray, CodeArray]:
        """Targets, and why rows are held."""
        n, since_s = len(features), self._clock.monotonic_ns() / 1e9
        while True:
            self._budget.wait()
            began_s = self._clock.monotonic_ns() / 1e9
            try:
                prediction = self._model.predict(features, CALL_S)
            except InvalidPrediction as error:
                reason, told = Reason.PREDICTOR_INVALID, str(error)
            except PredictionError as error:
                timeout = isinstance(error, PredictorTimeout)
                reason, told = Reason.PREDICTOR_TIMEOUT if timeout else Reason.PREDICTOR_UNAVAILABLE, str(error)
            else:
                self._lost = False
                self._budget.called(self._clock.monotonic_ns() / 1e9 - began_s)
                held = np.where(prediction.valid, np.int8(-1), np.int8(CODES[Reason.PREDICTOR_INVALID]))
                # Of the width that it was answered in, as the desk's are.
                targets = prediction.target_position.astype(np.float32).astype(np.float64)
                return np.where(prediction.valid, targets, np.nan), held
            self._budget.called(self._clock.monotonic_ns() / 1e9 - began_s)
            if (
                reason is Reason.PREDICTOR_INVALID
                or self._lost
                or self._clock.monotonic_ns() / 1e9 - since_s > PATIENCE_S
            ):
                if not self._lost:
                    log.warning("a challenger gives no answer", arm=self._arm, reason=told[:200])
                self._lost = reason is not Reason.PREDICTOR_INVALID
                return np.full(n, np.nan), np.full(n, CODES[reason], np.int8)
            self._clock.sleep(AGAIN_S)
