"""Several Tritons behind one gateway: one is asked, and another in the same breath where it does not answer.

A gateway stays with one of them, so that gateways spread over them and each keeps its connections warm. Whichever
answers, the decision is the same: a server is asked for the version that counts and for no other, and at its last
look it answered a probe byte for byte as that version does. The first that is named says which counts, because
releases go to it.

A version of a server is one object that never changes. Who may be asked, in which order and for what is one object
too, the line-up, which is replaced whole under a lock: a batch reads it once.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from hashlib import sha256

import structlog

from gateway.adapters.triton import TritonPredictor
from gateway.adapters.triton_lineup import (
    LOOK_S,
    OTHERWISE,
    SOONEST_S,
    Counts,
    Lineup,
    Member,
    OneTriton,
    Roster,
    Served,
    Told,
    answered,
    told,
    why_not,
)
from gateway.breaker import FAIR_TIMEOUT_S
from gateway.workers import Worker
from trading.arrays import Float32Array
from trading.errors import (
    ContractMismatch,
    PredictionError,
    PredictorDown,
    PredictorTimeout,
    PredictorUnavailable,
    ServiceUnavailable,
)
from trading.models.prediction import Prediction
from trading.models.serving import ServingFacts

log = structlog.get_logger()
#: For the probe that a server's answers are known by: at its start, and at each look afterwards.
FIRST_PROBE_S, PROBE_S = 5.0, 0.5
#: After which one of another build or device is taken anew: it may have become another while it was taken.
OTHERWISE_S = 10.0


class Tritons:
    """Implements Predictor for several servers of the same models."""

    def __init__(
        self,
        addresses: Sequence[str],
        model_name: str,
        model_version: str,
        first: int,
        connect: Callable[[str, str, str], OneTriton] = TritonPredictor,
    ) -> None:
        """Connect to the one that says which version counts; the others are taken in `settle_rows`.

        Args:
            addresses: host:port of each one's gRPC; the first says which version counts.
            model_name, model_version: as of TritonPredictor.
            first: which of them is asked first.
            connect: to one of them.

        Raises:
            ServiceUnavailable: the first does not answer; where a version is pinned, none does.
            ContractMismatch: it does not serve the contract; where a version is pinned, all answer and none does.
        """
        self.model_name, self._pinned, self._connect = model_name, model_version, connect
        self._members = [Member(address) for address in addresses]
        start = first % len(self._members)
        self._first, self._ended = self._members[0], threading.Event()
        self._roster = Roster([*self._members[start:], *self._members[:start]])
        #: None until whoever tells of another version is there: until then there is no other.
        self._before: Told | None = None
        self._probe: Float32Array | None = None
        self._version = self._first_word()
        self.workers: list[Worker] = []

    @property
    def _lineup(self) -> Lineup | None:
        return self._roster.lineup

    @property
    def model_version(self) -> str:
        """The version that counts."""
        return self._version if self._lineup is None else self._lineup.counts.version

    @property
    def serving(self) -> ServingFacts | None:
        """What its answers depend on; known from `settle_rows` on."""
        return None if self._lineup is None else self._lineup.counts.serving

    @property
    def rows_multiple(self) -> int:
        """See TritonPredictor."""
        return 1 if self._lineup is None else self._lineup.counts.serving.rows_multiple

    def servers(self) -> dict[str, str]:
        """Address -> why it is not asked; "" where it may be."""
        lineup = self._lineup
        asked = set() if lineup is None else {member.address for member, _ in lineup.asked}
        return {m.address: "" if m.address in asked else why_not(m, lineup) for m in self._members}

    def settle_rows(self, probe: Float32Array) -> ServingFacts:
        """Learn what the answers of each depend on, and begin to look after all of them.

        Raises:
            ServiceUnavailable: the first does not answer; where a version is pinned, none does.
        """
        self._probe, counts = probe, None
        for member in self._members:
            try:
                served = self._taken(member, self._pinned or (counts.version if counts is not None else ""))
            except (ServiceUnavailable, ContractMismatch, PredictionError) as error:
                if member is self._first and not self._pinned:
                    raise ServiceUnavailable(f"Triton at {member.address}: {error}") from error
                member.away = told(error)
                continue
            counts = counts or served.counts
            self._roster.install(member, served)
        if counts is None:
            raise ServiceUnavailable("; ".join(f"{m.address}: {m.away}" for m in self._members))
        self._roster.begin(counts)
        self.workers = [Worker(f"triton {m.address}", partial(self._look_after, m)) for m in self._members]
        for worker in self.workers:
            worker.start()
        return counts.serving

    def follow(self, before: Told) -> None:
        """From now on take the version that the first serves. `before` is told of each, and must not take long."""
        self._before = before
        self._first.wake.set()

    def predict(self, features: Float32Array, timeout_s: float) -> Prediction:
        """Ask one; where it does not answer, the next, within the same time. Raises PredictionError."""
        deadline, lineup = time.monotonic() + timeout_s, self._lineup
        asked = () if lineup is None else lineup.asked
        failure: PredictionError | None = None
        for number, (member, served) in enumerate(asked):
            left = deadline - time.monotonic()
            if failure is not None and left < FAIR_TIMEOUT_S / 4:
                break
            # One that hangs must leave time for another, where there is enough for both.
            share = left / 2 if number + 1 < len(asked) and left >= 2 * FAIR_TIMEOUT_S else left
            try:
                found = served.predictor.predict(features, share)
            except PredictorDown as error:
                failure = error
                self._roster.lose(member, error, served)
            except (PredictorTimeout, PredictorUnavailable) as error:
                failure = error
                is_fair = share >= FAIR_TIMEOUT_S or isinstance(error, PredictorUnavailable)
                self._roster.missed(member, served, error, is_fair=is_fair)
            else:
                member.misses = 0
                return found
        raise failure or PredictorUnavailable(
            "no Triton may be asked: " + "; ".join(f"{address}: {why}" for address, why in self.servers().items())
        )

    def close(self) -> None:
        """End the threads, and close all connections."""
        kept = self._roster.end()
        self._ended.set()
        for member in self._members:
            member.wake.set()
        for worker in self.workers:
            worker.join(PROBE_S)
        for one in kept:
            one.close()

    def _first_word(self) -> str:
        """The version that counts at the start."""
        failures: list[Exception] = []
        for member in self._members if self._pinned else [self._first]:
            try:
                found = self._connect(member.address, self.model_name, self._pinned)
            except (ServiceUnavailable, ContractMismatch) as error:
                failures.append(error)
            else:
                version = found.model_version
                found.close()
                return version
        # One that is silent, or still loads, may serve it in a moment.
        if all(isinstance(error, ContractMismatch) for error in failures):
            raise failures[-1]
        way_out = "; it says which version counts: bring it back, pin one, or name the others"
        raise ServiceUnavailable("; ".join(map(str, failures)) + ("" if self._pinned else way_out))

    def _taken(self, member: Member, version: str) -> Served:
        """What a server serves; of the newest version where none is told. Raises as a TritonPredictor."""
        probe = self._probe
        if probe is None:
            raise ServiceUnavailable("nothing was settled yet")
        predictor = self._connect(member.address, self.model_name, version)
        try:
            serving = predictor.settle_rows(probe)
            answer = answered(predictor, probe, FIRST_PROBE_S)
        except BaseException:
            predictor.close()
            raise
        return Served(predictor, Counts(predictor.model_version, serving), answer)

    def _look_after(self, member: Member) -> None:
        while not self._ended.is_set():
            lineup = self._lineup
            is_alone = lineup is None or not lineup.asked
            member.wake.wait(LOOK_S if is_alone or not member.away else member.pause_s)
            member.wake.clear()
            if self._ended.is_set():
                return
            try:
                self._look_at(member)
            # Whatever it is: it is tried again.
            except Exception as error:  # noqa: BLE001
                self._roster.lose(member, error)
            self._roster.close_retired(member)
            self._ended.wait(SOONEST_S)

    def _look_at(self, member: Member) -> None:
        served, lineup, probe = member.served, self._lineup, self._probe
        if lineup is None or probe is None:
            return
        if served is not None and not member.away:
            try:
                changed = "" if answered(served.predictor, probe, PROBE_S) == served.answer else OTHERWISE
            except PredictorTimeout as error:
                self._roster.was_slow(member, served, error)
                return
            except PredictorDown:
                raise
            except PredictorUnavailable as error:
                # Its version may be gone.
                changed = told(error)
            if not changed:
                self._let_back(member, served, probe)
                self._follow(member, served, lineup)
                return
            # Before it is taken anew, which may take long.
            self._roster.lose(member, changed, served, is_fickle=False)
        # Of the first the newest, of the others what counts.
        version = self._pinned or ("" if member is self._first else lineup.counts.version)
        self._replace(member, self._taken(member, version))

    def _let_back(self, member: Member, served: Served, probe: Float32Array) -> None:
        """One that was asked after the others is asked in its turn again once it is quick enough for a batch."""
        if member.behind:
            if time.monotonic() < member.behind_until:
                return
            try:
                served.predictor.predict(probe[:1], FAIR_TIMEOUT_S)
            except PredictorTimeout:
                return
        self._roster.is_well(member)

    def _follow(self, member: Member, served: Served, lineup: Lineup) -> None:
        """Of the first a newer version, of the others what counts. Where that fails, what it serves goes on."""
        try:
            wanted = lineup.counts.version
            if member is self._first and not self._pinned:
                if self._before is None:
                    return
                wanted = served.predictor.newest()
            is_otherwise = member is not self._first and served.counts != lineup.counts
            is_stale = is_otherwise and time.monotonic() - member.found_at > OTHERWISE_S
            if wanted != served.counts.version or is_stale:
                self._replace(member, self._taken(member, wanted))
        except Exception as error:  # noqa: BLE001 - it has just answered as it should
            log.warning("no other version to follow", address=member.address, reason=told(error))

    def _replace(self, member: Member, served: Served) -> None:
        """Of the first: what it serves now is what counts. It is told before it is asked."""
        lineup = self._lineup
        if member is not self._first or lineup is None or served.counts == lineup.counts:
            self._roster.install(member, served)
            return
        if self._before is None or self._ended.is_set():
            served.predictor.close()
            return
        log.info("version followed", old=self.model_version, new=served.counts.version)
        try:
            self._before(served.counts.version, served.counts.serving)
        except BaseException:
            served.predictor.close()
            raise
        self._roster.install(member, served, served.counts)
        for other in self._members[1:]:
            other.wake.set()


def first_of(instance: str) -> int:
    """Which of several a gateway asks first: names with numbers spread evenly."""
    if found := re.search(r"(\d{1,9})\Z", instance):
        return int(found[1])
    return int.from_bytes(sha256(instance.encode()).digest()[:4], "big")
