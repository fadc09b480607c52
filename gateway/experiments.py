"""Each row of a batch is asked of its arm: one call an arm, the challengers' beside the champion's.

The champion is asked for every row, in one call, as if there were no experiment: what it says is there where a
challenger is missing, slow or wrong. A challenger's call begins before the champion's and is waited for a moment
beyond it; so much longer a batch may take that has rows of a challenger, and no other one does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import structlog
from msgspec import structs

from gateway.arms import Answers, ChallengerAnswer, Division, Unit, joined
from gateway.batch import Batch
from gateway.ports import Canaries, Clock, PendingPrediction, Predictor, RunningCanary
from trading.arrays import Float32Array, Int64Array
from trading.decision.schema import Reason
from trading.errors import InvalidPrediction, PredictionError, PredictorTimeout
from trading.experiments.arms import Arm, Fallback
from trading.models.prediction import Prediction

log = structlog.get_logger()
#: Beyond the champion's answer a challenger's is waited for so long, or as long again as the champion took,
LEAST_PATIENCE_S = 0.003
#: and never longer than this part of what is left of its rows' budget.
SHARE_OF_LEFT = 0.25


class Begun(NamedTuple):
    """A challenger's call: places of its rows among those that are not shed, and what is waited for."""

    places: Int64Array
    pending: PendingPrediction | Fallback


class ArmsPredictor:
    """Asks for batches; one thread uses it."""

    def __init__(self, predictor: Predictor, canaries: Canaries | None, clock: Clock, variant: str) -> None:
        """Nothing was asked yet.

        Args:
            predictor: the champion.
            canaries: that are in force; None where no experiment can be.
            clock: monotonic time.
            variant: what the champion's rows are counted under.
        """
        self._predictor, self._canaries, self._clock, self._variant = predictor, canaries, clock, variant
        self._division = Division()
        #: That answered last; "" before anything has.
        self._version = ""

    def ask(self, batch: Batch) -> Answers:
        """What the rows of a batch are decided by: of each an answer, or why there is none."""
        asked = np.flatnonzero(batch.shed < 0)
        running = () if self._canaries is None else self._canaries.running()
        units = self._division.of(running, batch.ticks.symbols, batch.ticks.event_time_ns) if running else {}
        if not units:
            return self._ask_champion(batch, asked)
        begun = self._begin(batch, asked, running, units)
        began_ns = self._clock.monotonic_ns()
        champion = self._ask_champion(batch, asked)
        now_ns = self._clock.monotonic_ns()
        left_ns = max((int(batch.left_ns[asked[one.places]].max()) for one in begun.values()), default=0)
        ends_ns = now_ns + patience_ns(now_ns - began_ns, left_ns)
        answers = [
            ChallengerAnswer(one.places, self._said(running[place], one.pending, champion, ends_ns))
            for (place, _), one in begun.items()
        ]
        # Of several nobody knows which of them it was waited for.
        pending = sum(not isinstance(one.pending, Fallback) for one in begun.values())
        waited_us = (self._clock.monotonic_ns() - now_ns) / 1e3 if pending == 1 else 0.0
        return structs.replace(joined(champion, asked, running, units, answers), waited_us=waited_us)

    def _ask_champion(self, batch: Batch, asked: Int64Array) -> Answers:
        """As if there were no experiment: of one arm."""
        prediction, failure = self._predict(batch, asked)
        version = ""
        if prediction is not None:
            version = self._version = prediction.model_version
        arm = Arm(self._variant, self._predictor.model_name, version)
        return Answers(prediction, failure, (arm,), np.zeros(len(batch.ticks), np.int64))

    def _predict(self, batch: Batch, asked: Int64Array) -> tuple[Prediction | None, Reason]:
        """The champion's prediction for the rows that are not shed, or why there is none."""
        if not len(asked):
            return None, Reason.DEADLINE
        every = len(asked) == len(batch.ticks)
        features = batch.rows.values if every else batch.rows.values[asked]
        longest_ns = int((batch.left_ns if every else batch.left_ns[asked]).max())
        try:
            return self._predictor.predict(features, longest_ns / 1e9), Reason.TARGET
        except PredictorTimeout:
            return None, Reason.PREDICTOR_TIMEOUT
        except InvalidPrediction:
            return None, Reason.PREDICTOR_INVALID
        except PredictionError:
            return None, Reason.PREDICTOR_UNAVAILABLE

    def _begin(
        self, batch: Batch, asked: Int64Array, running: Sequence[RunningCanary], units: Mapping[Unit, Int64Array]
    ) -> dict[tuple[int, int], Begun]:
        """Begin each challenger's one call; by canary and arm."""
        rows: dict[tuple[int, int], list[Int64Array]] = {}
        for unit, mine in units.items():
            if unit.arm:
                rows.setdefault((unit.canary, unit.arm), []).append(mine)
        found = {}
        for (place, arm), parts in rows.items():
            places = np.flatnonzero(np.isin(asked, np.concatenate(parts)))
            if len(places):
                pending = self._begin_one(running[place], arm, batch.rows.values[asked[places]])
                found[place, arm] = Begun(places, pending)
        return found

    def _begin_one(self, canary: RunningCanary, arm: int, features: Float32Array) -> PendingPrediction | Fallback:
        if self._predictor.model_name != canary.champion[0] or self._version not in {"", canary.champion[1]}:
            return Fallback.CHAMPION_CHANGED
        model = canary.models[arm - 1]
        if model is None:
            return Fallback.NOT_SERVED
        try:
            return model.begin(features)
        # Whatever it is: the desk goes on.
        except Exception as error:  # noqa: BLE001
            return why(error)

    def _said(
        self, canary: RunningCanary, pending: PendingPrediction | Fallback, champion: Answers, ends_ns: int
    ) -> Prediction | Fallback:
        """A challenger's answer, or why there is none."""
        if isinstance(pending, Fallback):
            return pending
        try:
            found = pending.result(max(0.0, (ends_ns - self._clock.monotonic_ns()) / 1e9))
        except Exception as error:  # noqa: BLE001
            return why(error)
        # Another version of the champion was released in this very moment.
        changed = champion.prediction is not None and champion.arms[0].model_version != canary.champion[1]
        return Fallback.CHAMPION_CHANGED if changed else found


def patience_ns(took_ns: int, left_ns: int) -> int:
    """How long a challenger is waited for beyond the champion, which took so long, with so much time left."""
    wanted_ns = max(int(LEAST_PATIENCE_S * 1e9), took_ns)
    return max(0, min(wanted_ns, int(SHARE_OF_LEFT * (left_ns - took_ns))))


def why(error: Exception) -> Fallback:
    """How a failure is recorded."""
    if isinstance(error, PredictorTimeout):
        return Fallback.TIMEOUT
    if isinstance(error, PredictionError) and not isinstance(error, InvalidPrediction):
        return Fallback.UNAVAILABLE
    if not isinstance(error, PredictionError):
        log.warning("a challenger's answer cannot be read", reason=repr(error)[:200])
    return Fallback.INVALID
