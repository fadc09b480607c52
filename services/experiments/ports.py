"""What a shadow needs of the world, as protocols."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeVar

from services.experiments.partition_shadow import DecidedTick
from trading.arrays import Float32Array
from trading.experiments.register import Experiment
from trading.models.prediction import Prediction

Row_co = TypeVar("Row_co", covariant=True)


class ChallengerModel(Protocol):
    """A served version that nobody trades by."""

    def predict(self, features: Float32Array, timeout_s: float) -> Prediction:
        """Ask for float32 [n, 32]. Raises PredictionError."""


class DecisionLog(Protocol[Row_co]):
    """What the desk decided, in the order of each partition's log."""

    def poll(self, timeout_s: float) -> Mapping[int, Sequence[Row_co]]:
        """What has come, by partition; waits only while there is nothing at all.

        Raises:
            ServiceUnavailable: it cannot be read.
            ConfigurationError: a tick is gone, or a decision is none of this version.
        """

    def position(self, partition: int) -> int:
        """The offset after what was polled of its decisions."""

    def decided(self, partition: int) -> int:
        """The offset of the last tick whose decision was polled; negative for none."""

    def at_end(self, partition: int) -> bool:
        """Whether all that was decided of it has been polled, as of the last poll."""


#: With the ticks that decisions were about.
DeskLog = DecisionLog[DecidedTick]


class ExperimentControl(Protocol):
    """The desk's control topic."""

    def follow(self, timeout_s: float) -> int:
        """Take what has come; returns how many records. Raises ServiceUnavailable."""

    def experiments(self) -> Mapping[str, Experiment]:
        """As they stand; another object where anything changed."""

    def appended_ns(self, offset: int) -> int:
        """When a command came to the log, by the brokers' clock, ns since 1970."""

    def stop(self, name: str, reason: str) -> None:
        """Put the champion back. Raises ServiceUnavailable."""


class ExperimentJournal(Protocol):
    """Where what happened to experiments is put on record."""

    def note(self, experiment: str, event: str, reason: str) -> None:
        """Write it. Raises ServiceUnavailable."""


class Clock(Protocol):
    """Time, injected, so that tests move it."""

    def monotonic_ns(self) -> int:
        """Nanoseconds since some moment; it never steps back."""

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
