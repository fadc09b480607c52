"""What is known of one Triton among several, and who of them may be asked."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Protocol

from msgspec import Struct

from gateway.ports import Predictor
from gateway.workers import Worker
from trading.arrays import Float32Array
from trading.models.serving import ServingFacts

#: Between two looks at a server.
LOOK_S = 1.0
Told = Callable[[str, ServingFacts], None]


class Server(Predictor, Protocol):
    """What serves a gateway its model: one Triton, or several. See TritonPredictor."""

    @property
    def model_version(self) -> str:
        """The version that is asked."""

    @property
    def rows_multiple(self) -> int:
        """What a batch is padded to a multiple of."""

    @property
    def serving(self) -> ServingFacts | None:
        """What answers depend on; known from `settle_rows` on."""

    def settle_rows(self, probe: Float32Array) -> ServingFacts:
        """Learn what answers depend on. Raises ServiceUnavailable."""

    def follow(self, before: Told) -> None:
        """Take newer versions as they are released."""

    def servers(self) -> dict[str, str]:
        """Address -> why it is not asked; "" where it may be."""

    @property
    def workers(self) -> Sequence[Worker]:
        """Threads that it cannot do without."""


class OneTriton(Server, Protocol):
    """One of them, whose version never changes unless it is told to follow."""

    def newest(self) -> str:
        """The version that it would take now. Raises ServiceUnavailable, ContractMismatch."""


class Counts(Struct, frozen=True):
    """A version, and what its answers depend on."""

    version: str
    serving: ServingFacts


class Served(Struct, frozen=True):
    """A version of a server: never changed, only replaced. `answer` is what it answers to the probe."""

    predictor: OneTriton
    counts: Counts
    answer: bytes


class Lineup(Struct, frozen=True):
    """What counts, and who may be asked for it, in order."""

    counts: Counts
    asked: tuple[tuple[Member, Served], ...]


class Member:
    """One of the servers. Whoever changes it has the lock of `Tritons`.

    Attributes:
        served: what was taken of it last, whether it is there now or not.
        away: why it must be taken anew before it is asked; "" where it was there at the last look.
        behind: why it is asked after the others; "" where it is not.
        misses: batches in a row that had little time and no answer.
        wake: set where a batch has met something that is worth a look.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.served: Served | None = None
        self.away, self.behind, self.misses = "it was not reached yet", "", 0
        self.wake = threading.Event()
        self.pause_s, self.found_at = LOOK_S, float("-inf")
        self.retired: list[tuple[float, OneTriton]] = []


def why_not(member: Member, lineup: Lineup | None) -> str:
    """Why one is not in the line-up."""
    if member.away or member.served is None or lineup is None:
        return member.away or "what it serves is not known yet"
    if member.served.counts.version != lineup.counts.version:
        served, wanted = member.served.counts.version, lineup.counts.version
        return f"it serves version {served}, and {wanted} counts: start it anew on what that was released to"
    return "it answers a probe otherwise than the one that counts: its build or device is another"


def told(error: object) -> str:
    """A reason, which is never empty."""
    return str(error)[:200] or type(error).__name__


def answered(predictor: OneTriton, probe: Float32Array, timeout_s: float) -> bytes:
    """A digest of what it answers to a probe. Raises PredictionError."""
    found = predictor.predict(probe, timeout_s)
    parts = (found.regime_probabilities, found.strategy_signals, found.strategy_weights, found.target_position)
    return sha256(b"".join(part.tobytes() for part in parts)).digest()
