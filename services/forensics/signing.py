"""Signs what is stored, at most once a second, and keeps the lines in a folder, in Kafka and in the database."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from services.forensics.checkpoint_files import CheckpointFiles
from services.forensics.checkpoints import Checkpoint, TreeHead, digest, make, read, sign
from services.forensics.ports import Alarm, Lines, LogHead, LogName, Trail
from trading.errors import BadRecord, ServiceUnavailable
from trading.keys import Keys

log = structlog.get_logger()
SECOND_NS = 1_000_000_000
#: Where nothing was stored, a checkpoint still says so often that whoever signs lives.
AT_LEAST_EVERY_NS = 60 * SECOND_NS
#: A place that did not take a checkpoint is asked again after so long.
AGAIN_S = 10.0


class Signer:
    """Makes checkpoints of what is stored.

    Attributes:
        last: the newest checkpoint; None before the first.
        refuses: why none is signed; "" where they are.
    """

    def __init__(
        self,
        key: Ed25519PrivateKey,
        trusted: Keys,
        files: CheckpointFiles,
        topic: Lines,
        trail: Trail,
        again_s: float = AGAIN_S,
    ) -> None:
        """Nothing is read yet; `trusted` holds the key's public half, and older ones.

        A place that did not take a checkpoint is asked again after `again_s`.
        """
        self._wait_s = again_s
        self._key, self._trusted, self._files, self._topic, self._trail = key, trusted, files, topic, trail
        self.last: Checkpoint | None = None
        self.refuses = ""
        self._digest = ""
        #: What a place has not got yet.
        self._again_s: dict[str, float] = {}
        self._unsent: dict[str, list[tuple[Checkpoint, bytes]]] = {"Kafka": [], "the database": []}

    def begin(self) -> list[Alarm]:
        """Find the newest checkpoint, and make all three places hold it; what does not fit is told.

        Raises:
            ServiceUnavailable: Kafka or the database does not answer.
            ConfigurationError: the folder cannot be read.
        """
        alarms: list[Alarm] = []
        places = {
            "the folder": self._files.last(),
            "Kafka": self._topic.last(),
            "the database": self._trail.last_checkpoint(),
        }
        known: dict[str, tuple[Checkpoint, bytes]] = {}
        for place, line in places.items():
            if line is None:
                continue
            try:
                known[place] = read(line, self._trusted), line
            except BadRecord as error:
                alarms.append(
                    Alarm("checkpoints_differ", f"the last checkpoint in {place} is none: {error}", record=line)
                )
        self.refuses = alarms[0].detail if alarms else ""
        if not known:
            return alarms
        newest, line = max(known.values(), key=lambda one: one[0].number)
        for place, (checkpoint, other) in known.items():
            if checkpoint.number == newest.number and other != line:
                said = f"checkpoint {newest.number} in {place} is another than elsewhere"
                alarms.append(Alarm("checkpoints_differ", said, record=other))
        self.last, self._digest = newest, digest(line)
        self._unsent = {place: [] for place in self._unsent}
        self._fill(known)
        if alarms:
            self.refuses = alarms[0].detail
        return alarms

    def _fill(self, known: Mapping[str, tuple[Checkpoint, bytes]]) -> None:
        """Bring each place up to the newest, from a place that has it."""
        numbers = {place: checkpoint.number for place, (checkpoint, _) in known.items()}
        newest = max(numbers.values())
        in_files, in_kafka = numbers.get("the folder", -1), numbers.get("Kafka", -1)
        if in_files < newest:
            log.warning("checkpoints were missing in the folder", first=in_files + 1, last=newest)
            kept = self._topic.lines() if in_kafka == newest else self._trail.checkpoints_after(in_files)
            self._copy(kept, in_files, lambda c, line: self._files.append(line, c.signed_at_ns))
        if in_kafka < newest:
            self._copy(self._files.lines(), in_kafka, lambda _, line: self._topic.append(line))
        keep = self._trail.keep_checkpoint
        if "the database" in known:
            # One that was away when forensics was killed lacks some.
            last, _ = known["the database"]
            lines = self._files.lines_since(last.signed_at_ns) if last.number < newest else ()
            self._copy(lines, last.number, lambda c, line: keep(c.number, c.signed_at_ns, line))
        else:
            # One that is built again begins with the newest.
            checkpoint, line = next(one for one in known.values() if one[0].number == newest)
            keep(checkpoint.number, checkpoint.signed_at_ns, line)

    def _copy(self, lines: Iterable[bytes], after: int, write: Callable[[Checkpoint, bytes], None]) -> None:
        for line in lines:
            try:
                checkpoint = read(line, self._trusted)
            except BadRecord:
                continue
            if checkpoint.number > after:
                write(checkpoint, line)
                after = checkpoint.number

    def accepted(self) -> frozenset[str]:
        """Sentences of alarms that somebody has looked at."""
        return frozenset(one.alarm for one in self._files.acceptances())

    def expected(self) -> dict[LogName, TreeHead]:
        """What the trees must be when they have the sizes that were signed last."""
        return {} if self.last is None else {head.name: head for head in self.last.trees}

    def sign(self, heads: Iterable[LogHead], now_ns: int, carried: Iterable[TreeHead] = ()) -> Checkpoint | None:
        """A checkpoint of what is stored; None where it is not time for one, or none may be signed.

        Args:
            heads: of every log that is there.
            now_ns: wall time.
            carried: of lost logs, as they were signed last.

        Raises:
            ServiceUnavailable: the folder or the database does not take it; the same is tried again next time.
        """
        if self.refuses:
            return None
        last = self.last
        trees = [
            TreeHead(h.name.topic_id, h.name.partition, h.name.topic, h.tree.size, h.tree.root().hex())
            for h in heads
        ] + list(carried)
        number = 0
        if last is not None:
            number = last.number + 1
            # A clock that steps back signs no earlier than before.
            since, now_ns = now_ns - last.signed_at_ns, max(now_ns, last.signed_at_ns)
            changed = {t.name: t.size for t in trees} != last.sizes
            if (since < 0 and not changed) or 0 <= since < (SECOND_NS if changed else AT_LEAST_EVERY_NS):
                return None
        checkpoint = make(number, now_ns, self._digest, trees)
        line = sign(checkpoint, self._key)
        # The folder first: it is what a verifier trusts.
        self._files.append(line, now_ns)
        self.last, self._digest = checkpoint, digest(line)
        for waiting in self._unsent.values():
            waiting.append((checkpoint, line))
        self._send("Kafka", lambda _, line: self._topic.append(line))
        self._send("the database", lambda c, line: self._trail.keep_checkpoint(c.number, c.signed_at_ns, line))
        return checkpoint

    def _send(self, place: str, write: Callable[[Checkpoint, bytes], None]) -> None:
        """What a place has not got; it is tried again with the next checkpoint where it does not answer."""
        waiting = self._unsent[place]
        if time.monotonic() < self._again_s.get(place, 0.0):
            return
        while waiting:
            try:
                write(*waiting[0])
            except ServiceUnavailable as error:
                log.warning("checkpoints wait", place=place, count=len(waiting), reason=str(error)[:200])
                # Records must not wait for a place that does not answer.
                self._again_s[place] = time.monotonic() + self._wait_s
                return
            waiting.pop(0)
