"""Hand-written fakes, one a port of gateway/ports.py."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np

from gateway.domain.codec import encode
from gateway.domain.errors import PredictionError
from gateway.domain.schemas import DeadLetter, Decision, Float32Array, Tick, TradingState
from gateway.ports import Prediction, RawBatch

SECOND = 1_000_000_000


class FakeClock:
    """A wall clock that stands still until it is advanced."""

    def __init__(self, now_ns: int = 1_700_000_000 * SECOND) -> None:
        self._now_ns = now_ns

    def now_ns(self) -> int:
        return self._now_ns

    def advance(self, ms: float) -> None:
        self._now_ns += int(ms * 1e6)


class FakeSource:
    """Gives the batches that it was given, then nothing; keeps what was committed."""

    topic = "market.ticks"

    def __init__(self, batches: list[RawBatch]) -> None:
        self.batches = list(batches)
        self.committed: dict[int, int] = {}
        self.closed = False
        self.exhausted = threading.Event()

    def poll(self, max_messages: int, timeout_s: float) -> RawBatch | None:
        if not self.batches:
            self.exhausted.set()
            return None
        return self.batches.pop(0)

    def commit(self, next_offsets: dict[int, int], *, wait: bool = False) -> None:
        self.committed.update(next_offsets)

    def close(self) -> None:
        self.closed = True


class FakePending:
    def __init__(self, answer: Callable[[], Prediction]) -> None:
        self._answer = answer

    def result(self) -> Prediction:
        return self._answer()


class FakePredictor:
    """Answers with a fixed target, or fails as told."""

    model_name, model_version = "trading_decision", "7"

    def __init__(self, target: float = 0.5, error: PredictionError | None = None) -> None:
        self.target, self.error = target, error
        self.batches: list[Float32Array] = []
        self.timeouts: list[float] = []
        self.broken_rows: set[int] = set()
        self.closed = False

    def submit(self, features: Float32Array, timeout_s: float) -> FakePending:
        self.batches.append(features)
        self.timeouts.append(timeout_s)
        return FakePending(lambda: self._predict(len(features)))

    def close(self) -> None:
        self.closed = True

    def _predict(self, n: int) -> Prediction:
        if self.error is not None:
            raise self.error
        valid = np.array([i not in self.broken_rows for i in range(n)])
        return Prediction(
            regime_probabilities=np.tile(np.float32([0.5, 0.25, 0.25]), (n, 1)),
            strategy_signals=np.full((n, 4), self.target, np.float32),
            strategy_weights=np.full((n, 4), 0.25, np.float32),
            target_position=np.full(n, self.target),
            valid=valid,
        )


class FakeSink:
    """Keeps what was published; delivers at once, or when `flush` is called."""

    def __init__(self, delivered: Callable[[int, int], None], *, at_once: bool = True) -> None:
        self.decisions: list[Decision] = []
        self.letters: list[DeadLetter] = []
        self._delivered, self._at_once = delivered, at_once
        self._waiting: list[tuple[int, int]] = []

    def decision(self, partition: int, offset: int, decision: Decision) -> None:
        self.decisions.append(decision)
        self._take(partition, offset)

    def dead_letter(self, letter: DeadLetter) -> None:
        self.letters.append(letter)
        self._take(letter.partition, letter.offset)

    def poll(self) -> None:
        pass

    def flush(self, timeout_s: float) -> None:
        for place in self._waiting:
            self._delivered(*place)
        self._waiting.clear()

    def _take(self, partition: int, offset: int) -> None:
        if self._at_once:
            self._delivered(partition, offset)
        else:
            self._waiting.append((partition, offset))


class FakeStates:
    """A trading state that the test sets."""

    def __init__(self, state: TradingState = TradingState.ACTIVE) -> None:
        self.state = state

    def trading_state(self) -> TradingState:
        return self.state


class FakeMetrics:
    """Counts."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.letters = 0

    def batch(self, size: int, queue_s: float, features_s: float) -> None:
        self.batches.append(size)

    def settled(self, decisions: list[Decision], inference_s: float, decide_s: float, lag: int) -> None:
        pass

    def dead_letter(self) -> None:
        self.letters += 1


def raw_batch(
    ticks: list[Tick | bytes | None], clock: FakeClock, first_offset: int = 0, partition: int = 0
) -> RawBatch:
    """Ticks, or raw payloads, as messages sent now."""
    n = len(ticks)
    return RawBatch(
        partitions=[partition] * n,
        offsets=list(range(first_offset, first_offset + n)),
        sent_ns=[clock.now_ns()] * n,
        keys=[None] * n,
        payloads=[t if isinstance(t, bytes) or t is None else encode(t) for t in ticks],
        received_ns=clock.now_ns(),
    )
