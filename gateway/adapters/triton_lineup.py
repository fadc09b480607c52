"""What is known of each Triton among several, and who of them may be asked, in which order."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Protocol

import structlog
from msgspec import Struct

from gateway.ports import Predictor
from gateway.workers import Worker
from trading.arrays import Float32Array
from trading.models.serving import ServingFacts

log = structlog.get_logger()
#: Between two looks at a server; at once where a batch has met something, but no sooner than this after the last.
LOOK_S, SOONEST_S = 1.0, 0.1
#: How long one that comes and goes is left alone, while another may be asked.
LONGEST_PAUSE_S = 30.0
#: Batches with little time in a row that had no answer, after which a server is asked after the others; and looks.
SHORT_MISSES, SLOW_LOOKS = 3, 5
#: Until what was replaced is closed: longer than any batch.
CLOSE_AFTER_S = 10.0
OTHERWISE = "it answers a probe otherwise than the one that counts: its build, device or files are others"
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
    """One of the servers. Only `Roster` changes it.

    Attributes:
        served: what was taken of it last, whether it is there now or not.
        away: why it must be taken anew before it is asked; "" where it was there at the last look.
        behind: why it is asked after the others; "" where it is not.
        misses, slow_looks: batches with little time, and looks, in a row that had no answer.
        wake: set where a batch has met something that is worth a look.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.served: Served | None = None
        self.away, self.behind = "it was not reached yet", ""
        self.misses = self.slow_looks = 0
        self.wake = threading.Event()
        self.pause_s, self.found_at = LOOK_S, float("-inf")
        self.behind_s, self.behind_until, self.well_at = SOONEST_S, float("-inf"), float("-inf")
        self.retired: list[tuple[float, OneTriton]] = []


class Roster:
    """Who is there and who is asked, changed under one lock; the line-up that follows is read without it."""

    def __init__(self, members: Sequence[Member]) -> None:
        """Members in the order in which they are asked."""
        self._order, self._lock = members, threading.RLock()
        self.lineup: Lineup | None = None
        self.has_ended = False

    def begin(self, counts: Counts) -> None:
        """From now on this counts."""
        with self._lock:
            self._line_up(counts)

    def install(self, member: Member, served: Served, counts: Counts | None = None) -> None:
        """It is there, and serves this; with `counts`, this counts from now on."""
        with self._lock:
            if self.has_ended:
                served.predictor.close()
                return
            if member.away:
                log.info("a Triton may be asked", address=member.address, version=served.counts.version)
            if member.served is not None:
                # A batch may still be asking it.
                member.retired.append((time.monotonic(), member.served.predictor))
            member.served, member.away, member.behind = served, "", ""
            member.misses = member.slow_looks = 0
            member.found_at = time.monotonic()
            self._line_up(counts)

    def lose(self, member: Member, why: object, served: Served | None = None, *, is_fickle: bool = True) -> None:
        """It is asked by nobody until it was taken anew; one that comes and goes, after longer and longer.

        With `served`, only where it is that which it still serves.
        """
        with self._lock:
            if served is not None and member.served is not served:
                return
            if not member.away:
                log.warning("a Triton is not asked any more", address=member.address, reason=told(why))
                again = is_fickle and time.monotonic() - member.found_at < LONGEST_PAUSE_S
                member.pause_s = min(2 * member.pause_s, LONGEST_PAUSE_S) if again else LOOK_S
            member.away, member.behind = told(why), ""
            self._line_up()
            if self.lineup is not None and not self.lineup.asked:
                for one in self._order:
                    one.wake.set()

    def missed(self, member: Member, served: Served, why: object, *, is_fair: bool) -> None:
        """A batch had no answer. With little time that says nothing of a server, unless again and again."""
        with self._lock:
            if member.served is served and not member.away:
                member.misses += 1
                if is_fair or member.misses >= SHORT_MISSES:
                    self._put_behind(member, why)
                    member.wake.set()

    def was_slow(self, member: Member, served: Served, why: object) -> None:
        """A look had no answer: after a few of them it is lost, but never the last that is asked."""
        with self._lock:
            if member.served is not served or member.away:
                return
            member.slow_looks += 1
            self._put_behind(member, why)
            # Under the same lock: of two that are slow together one stays.
            is_last = self.lineup is None or len(self.lineup.asked) <= 1
            if member.slow_looks >= SLOW_LOOKS and not is_last:
                self.lose(member, why, served)

    def is_well(self, member: Member) -> None:
        """A look was answered as it should be, and as soon as a batch wants it."""
        with self._lock:
            member.misses = member.slow_looks = 0
            if member.behind:
                log.info("a Triton is asked in its turn again", address=member.address)
                member.behind, member.well_at = "", time.monotonic()
                self._line_up()

    def end(self) -> list[OneTriton]:
        """Nothing is installed any more; returns what is to be closed."""
        with self._lock:
            self.has_ended = True
            kept = [m.served.predictor for m in self._order if m.served is not None]
            kept += [one for m in self._order for _, one in m.retired]
            for member in self._order:
                member.retired.clear()
            return kept

    def close_retired(self, member: Member) -> None:
        """What was replaced so long ago that no batch asks it any more."""
        with self._lock:
            old = [one for since, one in member.retired if time.monotonic() - since > CLOSE_AFTER_S]
            member.retired = member.retired[len(old) :]
        for one in old:
            one.close()

    def _put_behind(self, member: Member, why: object) -> None:
        if not member.behind:
            log.warning("a Triton is asked after the others", address=member.address, reason=told(why))
            again = time.monotonic() - member.well_at < LONGEST_PAUSE_S
            member.behind_s = min(2 * member.behind_s, LONGEST_PAUSE_S) if again else SOONEST_S
            member.behind_until = time.monotonic() + member.behind_s
        member.behind = told(why)
        self._line_up()

    def _line_up(self, counts: Counts | None = None) -> None:
        counts = counts or (None if self.lineup is None else self.lineup.counts)
        if counts is None:
            return
        able = [
            (member, served)
            for member in self._order
            if not member.away and (served := member.served) is not None and served.counts == counts
        ]
        self.lineup = Lineup(counts, tuple(sorted(able, key=lambda one: one[0].behind != "")))


def why_not(member: Member, lineup: Lineup | None) -> str:
    """Why one is not in the line-up."""
    if member.away or member.served is None or lineup is None:
        return member.away or "what it serves is not known yet"
    if member.served.counts.version != lineup.counts.version:
        served, wanted = member.served.counts.version, lineup.counts.version
        return f"it serves version {served}, and {wanted} counts: start it anew on what that was released to"
    return OTHERWISE


def told(error: object) -> str:
    """A reason, which is never empty."""
    return str(error)[:200] or type(error).__name__


def answered(predictor: OneTriton, probe: Float32Array, timeout_s: float) -> bytes:
    """A digest of what it answers to a probe. Raises PredictionError."""
    found = predictor.predict(probe, timeout_s)
    parts = (found.regime_probabilities, found.strategy_signals, found.strategy_weights, found.target_position)
    return sha256(b"".join(part.tobytes() for part in parts)).digest()
