"""Several Tritons behind one gateway: one is asked, and another in the same breath where it does not answer.

A gateway stays with one of them, so that gateways spread over them and each keeps its connections warm. Whichever
answers, the decision is the same: only servers are asked that serve the version that counts, and have answered a
probe byte for byte alike. The first that is named says which version counts, because releases go to it.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Protocol

import structlog
from msgspec import Struct

from gateway.adapters.triton import TritonPredictor
from gateway.ports import Predictor
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
#: Between two looks at those that are not asked; a look at one takes so long at most.
LOOK_S, PROBE_S = 1.0, 1.0
#: Of a budget that is left, below which another server would not answer in time.
LEAST_LEFT_S = 0.002
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


class Counts(Struct, frozen=True):
    """The version that counts, and what its answers depend on."""

    version: str
    serving: ServingFacts


class Member:
    """One of the servers, whether it is there or not."""

    def __init__(self, address: str) -> None:
        self.address, self.reason = address, "it was not reached yet"
        self.predictor: Server | None = None
        self.up = self.follows = False

    def counts(self) -> Counts | None:
        """What it serves; None where that is not known."""
        found = self.predictor
        if found is None or found.serving is None:
            return None
        return Counts(found.model_version, found.serving)

    def lost(self, why: object) -> None:
        """It is not asked until it has answered a probe."""
        if self.up:
            log.warning("a Triton is not asked any more", address=self.address, reason=str(why)[:200])
        self.up, self.reason = False, str(why)[:200]

    def found(self) -> None:
        """It answers."""
        if not self.up and self.reason:
            log.info("a Triton is asked", address=self.address)
        self.up, self.reason = True, ""


class Tritons:
    """Implements Predictor for several servers of the same models."""

    def __init__(
        self,
        addresses: Sequence[str],
        model_name: str,
        model_version: str,
        first: int,
        connect: Callable[[str, str, str], Server] = TritonPredictor,
    ) -> None:
        """Connect to those that are there; the others are looked for from `settle_rows` on.

        Args:
            addresses: host:port of each one's gRPC; the first says which version counts.
            model_name, model_version: as of TritonPredictor.
            first: which of them is asked first.
            connect: to one of them.

        Raises:
            ServiceUnavailable: none answers.
            ContractMismatch: one that answers does not serve the contract.
        """
        self.model_name, self._pinned, self._connect = model_name, model_version, connect
        self._members = [Member(address) for address in addresses]
        start = first % len(self._members)
        #: In the order in which they are asked.
        self._order = [*self._members[start:], *self._members[:start]]
        self._counts: Counts | None = None
        self._agreeing, self._closing = threading.Lock(), threading.Event()
        #: None until whoever tells of another version is there: until then there is no other.
        self._before: Told | None = None
        self._probe: Float32Array | None = None
        try:
            failures = [self._reach(member) for member in self._members]
        except ContractMismatch:
            self.close()
            raise
        if all(failures):
            raise ServiceUnavailable("; ".join(map(str, failures)))

    @property
    def model_version(self) -> str:
        """The version that counts."""
        if self._counts is not None:
            return self._counts.version
        return next(m.predictor.model_version for m in self._members if m.predictor is not None)

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
        return {m.address: m.reason if not m.up else self._differs(m) for m in self._members}

    def settle_rows(self, probe: Float32Array) -> ServingFacts:
        """Learn what the answers of each depend on, and begin to look after those that are not asked.

        Raises:
            ServiceUnavailable: none answers.
        """
        self._probe = probe
        for member in self._members:
            self._settle(member)
        self._agree()
        if self._counts is None:
            raise ServiceUnavailable("; ".join(f"{m.address}: {m.reason}" for m in self._members))
        for address, why in self.servers().items():
            if why:
                log.warning("a Triton is not asked", address=address, reason=why)
        threading.Thread(target=self._look_after, name="tritons", daemon=True).start()
        return self._counts.serving

    def follow(self, before: Told) -> None:
        """From now on take the version that the first serves. `before` is told of each, and must not take long."""
        self._before = before

    def predict(self, features: Float32Array, timeout_s: float) -> Prediction:
        """Ask one; where it does not answer, the next, within the same time. Raises PredictionError."""
        deadline = time.monotonic() + timeout_s
        asked = self._asked() or self._again()
        failure: PredictionError = PredictorUnavailable(
            "no Triton may be asked: " + "; ".join(f"{address}: {why}" for address, why in self.servers().items())
        )
        for number, member in enumerate(asked):
            left = deadline - time.monotonic()
            if number and left < LEAST_LEFT_S:
                break
            if (predictor := member.predictor) is None:
                continue
            try:
                # One that hangs must leave time for another.
                found = predictor.predict(features, left / 2 if number + 1 < len(asked) else left)
            except (PredictorUnavailable, PredictorTimeout) as error:
                failure = error
                member.lost(error)
            else:
                if found.model_versions == (self.model_version,):
                    return found
                # It has gone on to another version between the question whether it may be asked and the asking.
                failure = PredictorUnavailable(f"{member.address} answered with version {found.model_versions[0]}")
        raise failure

    def close(self) -> None:
        """Close all connections."""
        self._closing.set()
        for member in self._members:
            if member.predictor is not None:
                member.predictor.close()

    def _asked(self) -> list[Member]:
        return [m for m in self._order if m.up and not self._differs(m)]

    def _again(self) -> list[Member]:
        """None is known to answer: a release may have just gone by, or all are gone, and any may be back."""
        try:
            self._agree()
        except Exception as error:  # noqa: BLE001 - who decides goes on with what counted
            log.warning("no other version is followed", reason=str(error)[:200])
        return self._asked() or [m for m in self._order if not self._differs(m)]

    def _differs(self, member: Member) -> str:
        """Why its answers are not those that count."""
        found, counts = member.counts(), self._counts
        if found == counts and found is not None:
            return ""
        if found is None or counts is None:
            return member.reason or "what it serves is not known yet"
        if found.version != counts.version:
            return f"it serves version {found.version}, and {counts.version} counts: release that there too"
        return "it answers a probe otherwise than the one that counts: its build or device is another"

    def _agree(self) -> None:
        """Whatever the first of them that answers serves is what counts."""
        with self._agreeing:
            found = next((c for m in self._members if m.up and (c := m.counts()) is not None), None)
            if found is None or found == self._counts:
                return
            if self._counts is not None:
                if self._before is None:
                    return
                if self._members[0].counts() != found and self._members[0].predictor is not None:
                    # It is away, and what it served still counts.
                    return
                log.info("version followed", old=self._counts.version, new=found.version)
                self._before(found.version, found.serving)
            self._counts = found

    def _reach(self, member: Member) -> Exception | None:
        try:
            member.predictor = self._connect(member.address, self.model_name, self._pinned)
        except ServiceUnavailable as error:
            member.lost(error)
            return error
        return None

    def _settle(self, member: Member) -> None:
        if member.predictor is None or self._probe is None:
            return
        try:
            member.predictor.settle_rows(self._probe)
        except (ServiceUnavailable, PredictionError) as error:
            member.lost(error)
        else:
            if not member.follows:
                member.follows = True
                member.predictor.follow(lambda *_: None)
            member.found()

    def _look_after(self) -> None:
        while not self._closing.wait(LOOK_S):
            for member in self._members:
                try:
                    self._look_at(member)
                # Whatever it is: the others are looked after, and it is tried again.
                except Exception as error:  # noqa: BLE001
                    member.lost(error)
            try:
                self._agree()
            except Exception as error:  # noqa: BLE001 - the log of starts does not take it: what counted goes on
                log.warning("no other version is followed", reason=str(error)[:200])

    def _look_at(self, member: Member) -> None:
        if member.up or self._probe is None:
            return
        if member.predictor is None:
            self._reach(member)
            self._settle(member)
        elif member.counts() is None:
            self._settle(member)
        else:
            member.predictor.predict(self._probe, PROBE_S)
            # It may have come back as another build, or with other files under the same number.
            self._settle(member)


def first_of(instance: str) -> int:
    """Which of several a gateway asks first: names with numbers spread evenly."""
    if found := re.search(r"(\d{1,9})\Z", instance):
        return int(found[1])
    return int.from_bytes(sha256(instance.encode()).digest()[:4], "big")
