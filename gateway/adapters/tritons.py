"""Several Tritons behind one gateway: one is asked, and another in the same breath where it does not answer.

A gateway stays with one of them, so that gateways spread over them and each keeps its connections warm. Whichever
answers, the decision is the same: a server is asked only for the version that counts, and only while it answers a
probe byte for byte as that version does. The first that is named says which counts, because releases go to it.

A version of a server is one object that never changes; another version, or the same after a server was away, is
another object. Each server has a thread that looks after it, and only that of the first changes what counts.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from hashlib import sha256
from typing import Protocol

import structlog
from msgspec import Struct

from gateway.adapters.triton import TritonPredictor
from gateway.breaker import FAIR_TIMEOUT_S
from gateway.ports import Predictor
from gateway.workers import Worker
from trading.arrays import Float32Array
from trading.errors import (
    ContractMismatch,
    PredictionError,
    PredictorTimeout,
    PredictorUnavailable,
    ServiceUnavailable,
)
from trading.models.prediction import Prediction
from trading.models.serving import ServingFacts

log = structlog.get_logger()
#: Between two looks at a server, and between two tries of one that comes and goes, at most.
LOOK_S, LONGEST_PAUSE_S = 1.0, 30.0
#: For the probe that a server's answers are known by: at its start, and at each look afterwards.
FIRST_PROBE_S, PROBE_S = 5.0, 0.5
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


class Member:
    """One of the servers, whether it is there or not."""

    def __init__(self, address: str) -> None:
        self.address, self.reason = address, "it was not reached yet"
        self.served: Served | None = None
        self.retired: list[OneTriton] = []
        self.pause_s, self.found_at = LOOK_S, float("-inf")

    def lost(self, why: object) -> None:
        """It is not asked until it was tried anew; one that comes and goes, after a longer and longer pause."""
        now = time.monotonic()
        if not self.reason:
            log.warning("a Triton is not asked any more", address=self.address, reason=str(why)[:200])
            is_fickle = now - self.found_at < LONGEST_PAUSE_S
            self.pause_s = min(2 * self.pause_s, LONGEST_PAUSE_S) if is_fickle else LOOK_S
        self.reason = str(why)[:200] or type(why).__name__

    def found(self, served: Served) -> None:
        """It answers."""
        if self.reason:
            log.info("a Triton may be asked", address=self.address, version=served.counts.version)
        before, self.served, self.reason, self.found_at = self.served, served, "", time.monotonic()
        if before is not None:
            # A batch may still be asking it.
            self.retired.append(before.predictor)

    def close(self) -> None:
        """Close all connections."""
        for one in [*self.retired, *([self.served.predictor] if self.served is not None else [])]:
            one.close()


class Tritons:
    """Implements Predictor for several servers of the same models."""

    def __init__(
        self,
        addresses: Sequence[str],
        model_name: str,
        model_version: str,
        first: int,
        connect: Callable[..., OneTriton] = TritonPredictor,
    ) -> None:
        """Connect to the one that says which version counts; the others are taken in `settle_rows`.

        Args:
            addresses: host:port of each one's gRPC; the first says which version counts.
            model_name, model_version: as of TritonPredictor.
            first: which of them is asked first.
            connect: to one of them.

        Raises:
            ServiceUnavailable: the first does not answer; where a version is pinned, none does.
            ContractMismatch: it does not serve the contract.
        """
        self.model_name, self._pinned = model_name, model_version
        self._connect = partial(connect, model_name=model_name, model_version=model_version)
        self._members = [Member(address) for address in addresses]
        start = first % len(self._members)
        #: In the order in which they are asked.
        self._order = [*self._members[start:], *self._members[:start]]
        self._counts: Counts | None = None
        self._closing = threading.Event()
        #: None until whoever tells of another version is there: until then there is no other.
        self._before: Told | None = None
        self._probe: Float32Array | None = None
        self._version = self._first_word()
        self.workers: list[Worker] = []

    @property
    def model_version(self) -> str:
        """The version that counts."""
        return self._version if self._counts is None else self._counts.version

    @property
    def serving(self) -> ServingFacts | None:
        """What its answers depend on; known from `settle_rows` on."""
        return None if self._counts is None else self._counts.serving

    @property
    def rows_multiple(self) -> int:
        """See TritonPredictor."""
        return 1 if self._counts is None else self._counts.serving.rows_multiple

    def servers(self) -> dict[str, str]:
        """Address -> why it is not asked; "" where it may be."""
        return {member.address: self._why_not(member) for member in self._members}

    def settle_rows(self, probe: Float32Array) -> ServingFacts:
        """Learn what the answers of each depend on, and begin to look after all of them.

        Raises:
            ServiceUnavailable: the first does not answer; where a version is pinned, none does.
        """
        self._probe = probe
        for member in self._members:
            try:
                self._take(member)
            except (ServiceUnavailable, ContractMismatch, PredictionError) as error:
                if member is self._members[0] and not self._pinned:
                    raise ServiceUnavailable(f"Triton at {member.address}: {error}") from error
                member.lost(error)
        counted = next((m.served.counts for m in self._members if m.served is not None), None)
        if counted is None:
            raise ServiceUnavailable("; ".join(f"{m.address}: {m.reason}" for m in self._members))
        self._counts = counted
        self.workers = [Worker(f"triton {m.address}", partial(self._look_after, m)) for m in self._members]
        for worker in self.workers:
            worker.start()
        return counted.serving

    def follow(self, before: Told) -> None:
        """From now on take the version that the first serves. `before` is told of each, and must not take long."""
        self._before = before

    def predict(self, features: Float32Array, timeout_s: float) -> Prediction:
        """Ask one; where it does not answer, the next, within the same time. Raises PredictionError."""
        deadline, counts = time.monotonic() + timeout_s, self._counts
        asked = [m for m in self._order if not self._why_not(m)]
        failure: PredictionError | None = None
        for number, member in enumerate(asked):
            left = deadline - time.monotonic()
            served = member.served
            if served is None or served.counts != counts or (failure is not None and left < FAIR_TIMEOUT_S / 4):
                continue
            # One that hangs must leave time for another, where there is enough for both.
            share = left / 2 if number + 1 < len(asked) and left >= 2 * FAIR_TIMEOUT_S else left
            try:
                return served.predictor.predict(features, share)
            except PredictorTimeout as error:
                failure = error
                # Ticks that come late leave little time: that it did not suffice says nothing of the server.
                if share >= FAIR_TIMEOUT_S:
                    member.lost(error)
            except PredictorUnavailable as error:
                failure = error
                member.lost(error)
        raise failure or PredictorUnavailable(
            "no Triton may be asked: " + "; ".join(f"{address}: {why}" for address, why in self.servers().items())
        )

    def close(self) -> None:
        """Close all connections."""
        self._closing.set()
        for member in self._members:
            member.close()

    def _first_word(self) -> str:
        """The version that counts at the start."""
        failures = []
        for member in self._members if self._pinned else self._members[:1]:
            try:
                found = self._connect(member.address)
            except ServiceUnavailable as error:
                failures.append(error)
            else:
                version = found.model_version
                found.close()
                return version
        raise ServiceUnavailable(
            "; ".join(map(str, failures))
            + ("" if self._pinned else "; it says which version counts: bring it back, pin one, or name the others")
        )

    def _why_not(self, member: Member) -> str:
        served, counts = member.served, self._counts
        if member.reason or served is None or counts is None:
            return member.reason or "what it serves is not known yet"
        if served.counts.version != counts.version:
            return f"it serves version {served.counts.version}, and {counts.version} counts: release that there too"
        if served.counts != counts:
            return "it answers a probe otherwise than the one that counts: its build or device is another"
        return ""

    def _take(self, member: Member) -> None:
        """What a server serves now. Raises as a TritonPredictor."""
        probe = self._probe
        if probe is None:
            return
        predictor = self._connect(member.address)
        try:
            serving = predictor.settle_rows(probe)
            found = Served(
                predictor, Counts(predictor.model_version, serving), answered(predictor, probe, FIRST_PROBE_S)
            )
        except BaseException:
            predictor.close()
            raise
        member.found(found)

    def _look_after(self, member: Member) -> None:
        while not self._closing.wait(member.pause_s if member.reason else LOOK_S):
            # The last of them may still be asked by a batch.
            while len(member.retired) > 1:
                member.retired.pop(0).close()
            try:
                self._look_at(member)
                if member is self._members[0]:
                    self._agree()
            # Whatever it is: it is tried again.
            except Exception as error:  # noqa: BLE001
                member.lost(error)

    def _look_at(self, member: Member) -> None:
        served = member.served
        # It may have been started anew since the last look, as another build, or with other files under its number.
        if (
            member.reason
            or served is None
            or self._probe is None
            or served.predictor.newest() != served.counts.version
            or answered(served.predictor, self._probe, PROBE_S) != served.answer
        ):
            self._take(member)

    def _agree(self) -> None:
        """What the first serves is what counts; while it is away, what it served last."""
        first = self._members[0]
        if first.reason or first.served is None or first.served.counts == self._counts or self._before is None:
            return
        found = first.served.counts
        log.info("version followed", old=self.model_version, new=found.version)
        self._before(found.version, found.serving)
        self._counts = found


def answered(predictor: OneTriton, probe: Float32Array, timeout_s: float) -> bytes:
    """A digest of what it answers to a probe. Raises PredictionError."""
    found = predictor.predict(probe, timeout_s)
    parts = (found.regime_probabilities, found.strategy_signals, found.strategy_weights, found.target_position)
    return sha256(b"".join(part.tobytes() for part in parts)).digest()


def first_of(instance: str) -> int:
    """Which of several a gateway asks first: names with numbers spread evenly."""
    if found := re.search(r"(\d{1,9})\Z", instance):
        return int(found[1])
    return int.from_bytes(sha256(instance.encode()).digest()[:4], "big")
