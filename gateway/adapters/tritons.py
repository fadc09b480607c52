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
    Counts,
    Lineup,
    Member,
    OneTriton,
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
#: A look comes at once where a batch has met something, but no sooner than this after the last.
SOONEST_S = 0.1
#: Between two tries of one that comes and goes, at most, while another may be asked.
LONGEST_PAUSE_S = 30.0
#: For the probe that a server's answers are known by: at its start, and at each look afterwards.
FIRST_PROBE_S, PROBE_S = 5.0, 0.5
#: Batches in a row that had little time and no answer, after which a server is asked after the others.
SHORT_MISSES = 3
#: Until what was replaced is closed: longer than any batch.
CLOSE_AFTER_S = 10.0


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
            ContractMismatch: it does not serve the contract; where a version is pinned, none does.
        """
        self.model_name, self._pinned, self._connect = model_name, model_version, connect
        self._members = [Member(address) for address in addresses]
        start = first % len(self._members)
        #: In the order in which they are asked; and the one that says what counts.
        self._order, self._first = [*self._members[start:], *self._members[:start]], self._members[0]
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._lineup: Lineup | None = None
        #: None until whoever tells of another version is there: until then there is no other.
        self._before: Told | None = None
        self._probe: Float32Array | None = None
        self._version = self._first_word()
        self.workers: list[Worker] = []

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
            with self._lock:
                self._install(member, served)
        if counts is None:
            raise ServiceUnavailable("; ".join(f"{m.address}: {m.away}" for m in self._members))
        with self._lock:
            self._line_up(counts)
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
            except (PredictorTimeout, PredictorUnavailable) as error:
                failure = error
                self._met(member, served, error, is_fair=share >= FAIR_TIMEOUT_S)
            else:
                member.misses = 0
                return found
        raise failure or PredictorUnavailable(
            "no Triton may be asked: " + "; ".join(f"{address}: {why}" for address, why in self.servers().items())
        )

    def close(self) -> None:
        """End the threads, and close all connections."""
        with self._lock:
            self._ended.set()
            kept = [m.served.predictor for m in self._members if m.served is not None]
            kept += [one for m in self._members for _, one in m.retired]
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
                if isinstance(error, ContractMismatch) and (not self._pinned or member is self._members[-1]):
                    raise
                failures.append(error)
            else:
                version = found.model_version
                found.close()
                return version
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

    # With the lock.

    def _install(self, member: Member, served: Served) -> None:
        if self._ended.is_set():
            served.predictor.close()
            return
        if member.away:
            log.info("a Triton may be asked", address=member.address, version=served.counts.version)
        if member.served is not None:
            # A batch may still be asking it.
            member.retired.append((time.monotonic(), member.served.predictor))
        member.served, member.away, member.behind, member.misses = served, "", "", 0
        member.found_at = time.monotonic()

    def _line_up(self, counts: Counts) -> None:
        able = [
            (member, served)
            for member in self._order
            if not member.away and (served := member.served) is not None and served.counts == counts
        ]
        self._lineup = Lineup(counts, tuple(sorted(able, key=lambda one: one[0].behind != "")))

    def _lose(self, member: Member, why: object) -> None:
        if not member.away:
            log.warning("a Triton is not asked any more", address=member.address, reason=told(why))
            is_fickle = time.monotonic() - member.found_at < LONGEST_PAUSE_S
            member.pause_s = min(2 * member.pause_s, LONGEST_PAUSE_S) if is_fickle else LOOK_S
        member.away, member.behind = told(why), ""
        if self._lineup is not None:
            self._line_up(self._lineup.counts)
            if not self._lineup.asked:
                for one in self._members:
                    one.wake.set()

    # Without it.

    def _met(self, member: Member, served: Served, error: PredictionError, *, is_fair: bool) -> None:
        """A batch was not answered: one that is not there is not asked, another after the others, until a look."""
        with self._lock:
            # It may have been replaced while it was asked: then it says nothing of what is there now.
            if member.served is not served or member.away or self._lineup is None:
                return
            if isinstance(error, PredictorDown):
                self._lose(member, error)
                return
            member.misses += 1
            # Ticks that come late leave little time: that it did not suffice, once, says nothing of the server.
            if is_fair or isinstance(error, PredictorUnavailable) or member.misses >= SHORT_MISSES:
                member.behind = told(error)
                self._line_up(self._lineup.counts)
                member.wake.set()

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
                with self._lock:
                    self._lose(member, error)
            while member.retired and time.monotonic() - member.retired[0][0] > CLOSE_AFTER_S:
                member.retired.pop(0)[1].close()
            self._ended.wait(SOONEST_S)

    def _look_at(self, member: Member) -> None:
        served, lineup, probe = member.served, self._lineup, self._probe
        if lineup is None or probe is None:
            return
        if served is None or member.away or not self._is_proven(served, probe):
            self._replace(member, self._taken(member, self._wanted(member, lineup)))
            return
        with self._lock:
            if member.behind or member.misses:
                member.behind, member.misses = "", 0
                self._line_up(lineup.counts if self._lineup is None else self._lineup.counts)
        wanted = lineup.counts.version
        if member is self._first and not self._pinned:
            if self._before is None:
                return
            wanted = served.predictor.newest()
        if wanted != served.counts.version:
            try:
                self._replace(member, self._taken(member, wanted))
            except (ServiceUnavailable, ContractMismatch, PredictionError) as error:
                # What it serves goes on.
                log.warning("no other version to follow", address=member.address, reason=told(error))

    def _is_proven(self, served: Served, probe: Float32Array) -> bool:
        """Whether it answers as it did: it may have been started anew, or hold other files under its number."""
        try:
            return answered(served.predictor, probe, PROBE_S) == served.answer
        except PredictorUnavailable as error:
            if isinstance(error, PredictorDown):
                raise
            # Its version may be gone.
            return False

    def _wanted(self, member: Member, lineup: Lineup) -> str:
        """Of the first the newest, of the others what counts."""
        return self._pinned or ("" if member is self._first else lineup.counts.version)

    def _replace(self, member: Member, served: Served) -> None:
        """Of the first: what it serves now is what counts. It is told before it is asked."""
        counts = None if self._lineup is None else self._lineup.counts
        if member is self._first and served.counts != counts:
            if self._before is None or self._ended.is_set():
                served.predictor.close()
                return
            log.info("version followed", old=self.model_version, new=served.counts.version)
            self._before(served.counts.version, served.counts.serving)
            counts = served.counts
            for other in self._members[1:]:
                other.wake.set()
        with self._lock:
            self._install(member, served)
            if counts is not None:
                self._line_up(counts if member is self._first or self._lineup is None else self._lineup.counts)


def first_of(instance: str) -> int:
    """Which of several a gateway asks first: names with numbers spread evenly."""
    if found := re.search(r"(\d{1,9})\Z", instance):
        return int(found[1])
    return int.from_bytes(sha256(instance.encode()).digest()[:4], "big")
