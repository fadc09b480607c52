"""A circuit breaker before the model server: what keeps failing is not waited for.

Closed, every batch is asked. After `failures` in a row it opens, and batches are held at once. After
a pause it is half open: one batch is asked; its success closes, its failure doubles the pause.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from enum import StrEnum

from gateway.ports import Predictor
from trading.arrays import Float32Array
from trading.errors import PredictionError, PredictorTimeout, PredictorUnavailable
from trading.models.prediction import Prediction

#: A server that answers takes less, even on a busy machine.
FAIR_TIMEOUT_S = 0.02


class BreakerState(StrEnum):
    """Whether batches are asked."""

    CLOSED = "closed"
    HALF_OPEN = "half_open"
    OPEN = "open"


class CircuitBreaker:
    """Counts what fails in a row. Thread-safe; times in seconds of a monotonic clock."""

    def __init__(
        self,
        now_s: Callable[[], float],
        failures: int = 5,
        pause_s: float = 0.25,
        longest_pause_s: float = 1.0,
        changed: Callable[[BreakerState], None] = lambda _: None,
    ) -> None:
        self._now_s, self._failures, self._changed = now_s, failures, changed
        self._first_pause_s, self._longest_pause_s = pause_s, longest_pause_s
        self._lock = threading.Lock()
        self._state, self._in_a_row, self._pause_s, self._open_until = BreakerState.CLOSED, 0, pause_s, 0.0

    @property
    def state(self) -> BreakerState:
        """As of now."""
        return self._state

    def allows(self) -> bool:
        """Whether to ask; after a pause this admits one probe."""
        with self._lock:
            if self._state is BreakerState.CLOSED:
                return True
            if self._state is BreakerState.OPEN and self._now_s() >= self._open_until:
                self._become(BreakerState.HALF_OPEN)
                return True
            return False

    def succeeded(self) -> None:
        """An answer came."""
        with self._lock:
            self._in_a_row, self._pause_s = 0, self._first_pause_s
            self._become(BreakerState.CLOSED)

    def failed(self) -> None:
        """None came, or a wrong one."""
        with self._lock:
            self._in_a_row += 1
            if self._state is BreakerState.HALF_OPEN:
                self._pause_s = min(2 * self._pause_s, self._longest_pause_s)
            elif self._state is BreakerState.OPEN or self._in_a_row < self._failures:
                return  # what was asked before it opened says nothing new
            self._open_until = self._now_s() + self._pause_s
            self._become(BreakerState.OPEN)

    def _become(self, state: BreakerState) -> None:
        if state is not self._state:
            self._state = state
            self._changed(state)


class GuardedPredictor:
    """Implements Predictor: another one behind a breaker."""

    def __init__(self, inner: Predictor, breaker: CircuitBreaker) -> None:
        self.model_name = inner.model_name
        self._inner, self._breaker = inner, breaker

    def predict(self, features: Float32Array, timeout_s: float) -> Prediction:
        """Ask, or refuse at once; tell the breaker how it ended."""
        if not self._breaker.allows():
            raise PredictorUnavailable("the circuit breaker is open")
        try:
            prediction = self._inner.predict(features, timeout_s)
        except PredictorTimeout:
            # Ticks that come late leave little time: that it did not suffice says nothing of the server.
            # A probe's end must be told in any case.
            if timeout_s >= FAIR_TIMEOUT_S or self._breaker.state is not BreakerState.CLOSED:
                self._breaker.failed()
            raise
        except PredictionError:
            self._breaker.failed()
            raise
        self._breaker.succeeded()
        return prediction

    def close(self) -> None:
        """Close the one behind."""
        self._inner.close()
