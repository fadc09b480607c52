"""What two series of gateways made of the same ticks, compared byte by byte."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from msgspec import Struct, structs

from connectors.kafka.reading import read_to_end, reader
from trading.dead_letters import DeadLetter
from trading.decision.schema import Decision, StageTimes
from trading.decision.wire import decode_decision, place
from trading.encoding import Records, encode
from trading.errors import BadRecord

_letters = Records(DeadLetter)
NO_TIMES = StageTimes(0.0, 0.0, 0.0, 0.0)
Place = tuple[int, int]


class PublishedLog(Struct):
    """A series' decisions and dead letters, each as a digest at the place of its tick.

    Attributes:
        evidence: of everything but the times.
        features: of the features alone, which no fault may touch.
        letters: of place and reason.
        repeated: places that came more than once.
        disordered: places that came after a later one of their partition.
        broken: places whose decision does not begin where the symbol's last one ended.
        unreadable: records that are neither a decision nor a dead letter, wherever they belong.
    """

    evidence: dict[Place, bytes]
    features: dict[Place, bytes]
    letters: dict[Place, bytes]
    repeated: list[Place]
    disordered: list[Place]
    broken: list[Place]
    unreadable: int = 0


class Span(Struct, frozen=True):
    """Offsets of each partition: from `since`, before `until`."""

    since: dict[int, int]
    until: dict[int, int]

    def holds(self, where: Place) -> bool:
        """Whether a place lies within."""
        partition, offset = where
        return self.since.get(partition, 0) <= offset < self.until.get(partition, 0)


class LogComparison(Struct, frozen=True):
    """A disturbed series against the undisturbed one, within a span of ticks."""

    ticks: int
    letters: int
    missing: int
    repeated: int
    disordered: int
    different: int

    @property
    def ok(self) -> bool:
        """Nothing lost, twice, out of order or different."""
        return not (self.missing or self.repeated or self.disordered or self.different)


def read_trail(bootstrap: str, decisions: str, letters: str) -> PublishedLog:
    """Everything that read-committed readers see."""
    trail = PublishedLog({}, {}, {}, [], [], [])
    latest: dict[int, int] = {}
    positions: dict[tuple[int, str], float] = {}
    for payload in read_all(bootstrap, decisions):
        try:
            decision = decode_decision(payload)
        except BadRecord:
            trail.unreadable += 1
        else:
            note(trail, decision, latest, positions)
    for payload in read_all(bootstrap, letters):
        try:
            letter = _letters.read(payload)
        except BadRecord:
            trail.unreadable += 1
            continue
        where = (letter.partition, letter.offset)
        if where in trail.letters:
            trail.repeated.append(where)
        trail.letters[where] = payload
    return trail


def note(
    trail: PublishedLog, decision: Decision, latest: dict[int, int], positions: dict[tuple[int, str], float]
) -> None:
    """Add a decision in the order of its log."""
    where = place(decision.decision_id)
    partition, offset = where
    if where in trail.evidence:
        trail.repeated.append(where)
    if offset < latest.get(partition, -1):
        trail.disordered.append(where)
    latest[partition] = max(offset, latest.get(partition, -1))
    key = (partition, decision.symbol)
    if decision.position_before != positions.get(key, 0.0):
        trail.broken.append(where)
    positions[key] = decision.position_after
    trail.evidence[where] = digest(encode(structs.replace(decision, stages=NO_TIMES, decided_at_ns=0)))
    trail.features[where] = digest(encode([decision.features, decision.warm, decision.mid_price]))


def compare(calm: PublishedLog, storm: PublishedLog, span: Span, *, whole_evidence: bool) -> LogComparison:
    """Compare what both made of a span of the log; without `whole_evidence`, the features alone."""
    reference, found = (calm.evidence, storm.evidence) if whole_evidence else (calm.features, storm.features)
    places = [where for where in reference if span.holds(where)]
    letters = [where for where in calm.letters if span.holds(where)]
    missing = sum(where not in found for where in places) + sum(where not in storm.letters for where in letters)
    different = sum(where in found and found[where] != reference[where] for where in places)
    different += sum(where in storm.letters and storm.letters[where] != calm.letters[where] for where in letters)
    # What the calm series does not have at all is an invention.
    different += sum(where not in reference for where in found if span.holds(where))
    different += sum(map(span.holds, storm.broken)) + storm.unreadable
    return LogComparison(
        ticks=len(places),
        letters=len(letters),
        missing=missing,
        repeated=sum(map(span.holds, storm.repeated)),
        disordered=sum(map(span.holds, storm.disordered)),
        different=different,
    )


def read_all(bootstrap: str, topic: str) -> Iterator[bytes]:
    """Every committed payload of a topic, partition by partition."""
    consumer = reader(bootstrap)
    partitions = sorted(consumer.list_topics(topic, timeout=10.0).topics[topic].partitions)
    consumer.close()
    for partition in partitions:
        for messages in read_to_end(bootstrap, topic, partition, 0):
            yield from (message.value() or b"" for message in messages)


def digest(content: bytes) -> bytes:
    """Sixteen bytes that stand for many."""
    return hashlib.blake2b(content, digest_size=16).digest()
