"""What the pipeline needs of the world, as protocols. Adapters implement them, tests fake them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from msgspec import Struct

from gateway.domain.schemas import (
    BoolArray,
    DeadLetter,
    Decision,
    Float32Array,
    FloatArray,
    TradingState,
)


class RawBatch(Struct, frozen=True):
    """Messages as they came, in order within each partition; lists of equal length.

    `sent_ns` is the time at which the producer says that it sent each message, and `received_ns`
    the time at which the batch was polled; both wall clock.
    """

    partitions: list[int]
    offsets: list[int]
    sent_ns: list[int]
    keys: list[bytes | None]
    payloads: list[bytes | None]
    received_ns: int

    def __len__(self) -> int:
        return len(self.offsets)

    def began_ns(self, i: int) -> int:
        """When a tick's budget began: a producer's clock that runs ahead must not lengthen it."""
        return min(self.sent_ns[i], self.received_ns)


class Prediction(Struct, frozen=True):
    """The model's answer for n rows; where `valid` is False the row's values must not be used.

    Attributes:
        regime_probabilities: float32 [n, 3].
        strategy_signals, strategy_weights: float32 [n, 4].
        target_position: float64 [n].
        valid: bool [n].
    """

    regime_probabilities: Float32Array
    strategy_signals: Float32Array
    strategy_weights: Float32Array
    target_position: FloatArray
    valid: BoolArray


class TickSource(Protocol):
    """Messages of the partitions that this gateway owns."""

    topic: str

    def poll(self, max_messages: int, timeout_s: float) -> RawBatch | None:
        """What has arrived, at once; waits only while there is nothing at all."""

    def commit(self, next_offsets: dict[int, int], *, wait: bool = False) -> None:
        """Note where to go on after a restart."""

    def close(self) -> None:
        """Leave the group."""


class PendingPrediction(Protocol):
    """An inference in flight."""

    def result(self) -> Prediction:
        """Wait for it. Raises PredictionError."""


class Predictor(Protocol):
    """The model server, with one pinned model version."""

    model_name: str
    model_version: str

    def submit(self, features: Float32Array, timeout_s: float) -> PendingPrediction:
        """Start an inference on float32 [n, 32]; failures show in `result`."""

    def close(self) -> None:
        """Free the connection."""


class DecisionSink(Protocol):
    """Where decisions go. `delivered(partition, offset)` is called when one is safe."""

    def decision(self, partition: int, offset: int, decision: Decision) -> None:
        """Publish a decision beside its tick."""

    def dead_letter(self, letter: DeadLetter) -> None:
        """Publish what is no tick."""

    def poll(self) -> None:
        """Serve delivery reports. Raises ServiceUnavailable when one failed."""

    def flush(self, timeout_s: float) -> None:
        """Wait until all is delivered. Raises ServiceUnavailable when it is not."""


class StateStore(Protocol):
    """The desk's latched trading state."""

    def trading_state(self) -> TradingState:
        """The latest state; never ACTIVE when it cannot be known."""


class Clock(Protocol):
    """Wall time, injected."""

    def now_ns(self) -> int:
        """Nanoseconds since 1970 UTC."""


class Metrics(Protocol):
    """What is counted."""

    def batch(self, size: int, queue_s: float, features_s: float) -> None:
        """A batch was submitted."""

    def settled(self, decisions: list[Decision], inference_s: float, decide_s: float, lag: int) -> None:
        """A batch was decided; `lag` is the number of ticks read but not yet safe."""

    def dead_letter(self) -> None:
        """A message was no tick."""


Delivered = Callable[[int, int], None]
