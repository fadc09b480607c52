"""Dead letters as a person works with them: find, group, send the originals again."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from typing import Any

from msgspec import Struct, structs

from connectors.kafka.client import Consumer, Message, Producer, TopicPartition
from connectors.kafka.cluster import require
from connectors.kafka.errors import CONTROL_TIMEOUT_S, translating
from connectors.kafka.messages import MS, as_bytes, usable
from connectors.kafka.reading import read_to_end, reader
from connectors.kafka.watermarks import Watermarks, bounds
from trading.dead_letters import DeadLetter
from trading.encoding import Records, encode
from trading.errors import BadRecord, ConfigurationError, ServiceUnavailable

#: Readers of the ticks wait for a replay that was killed at most so long, or until somebody else replays.
TRANSACTION_TIMEOUT_MS = 15_000
#: Longer than a transaction of a gateway that was killed stays open.
SETTLED_S = 30.0
#: So many messages wait in memory; more are sent as these leave.
MOST_QUEUED, ROOM_S = 1_000, 0.05
#: Headers of what was sent again.
REPLAY_OF, REPLAYED_BY = "replay-of", "replayed-by"
#: Header of a note in the dead-letter topic that a letter was replayed: keys and values are the producers'.
NOTE = "ultrathink-note"


class FoundLetter(Struct):
    """A letter, when it was buried, and whether it was sent again since."""

    letter: DeadLetter
    at_ns: int
    replayed: bool = False

    @property
    def place(self) -> str:
        """Where the message lies among the ticks."""
        return f"{self.letter.partition}-{self.letter.offset}"


class LetterSummary(Struct, frozen=True):
    """All letters of one reason; `last_place` is the newest's, by which it can be shown and sent again."""

    reason: str
    count: int
    replayed: int
    first_ns: int
    last_ns: int
    last_place: str


class Note(Struct, frozen=True):
    """That a letter was sent again."""

    replay_of: str
    by: str
    at_ns: int


_notes, _letters = Records(Note), Records(DeadLetter)


def is_note(message: Message) -> bool:
    """Whether a record of the dead-letter topic says that a letter was sent again."""
    headers: Any = message.headers() or []
    return any(name == NOTE for name, _ in headers)


class Replayed(Struct, frozen=True):
    """How many went, and what the log no longer holds."""

    sent: int
    expired: list[str]


class LetterBox:
    """The dead-letter topic of a cluster."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self._bootstrap, self._topic = bootstrap, topic
        #: Records of the topic that were neither letters nor notes.
        self.bad = 0

    def read(self, reason: str = "", since_ns: int | None = None, until_ns: int | None = None) -> list[FoundLetter]:
        """Letters whose reason contains a text, by time. Raises ServiceUnavailable."""
        found = [
            f
            for partition in require(self._bootstrap, self._topic)
            for f in self._read_partition(partition)
            if reason in f.letter.reason
            and (since_ns is None or f.at_ns >= since_ns)
            and (until_ns is None or f.at_ns < until_ns)
        ]
        return sorted(found, key=lambda f: (f.at_ns, f.letter.partition, f.letter.offset))

    def find(self, place: str) -> FoundLetter:
        """The letter of PARTITION-OFFSET. Raises ConfigurationError when there is none."""
        partition, _, offset = place.partition("-")
        if not (partition.isdigit() and offset.isdigit()):
            raise ConfigurationError(
                f"{place!r} is no PARTITION-OFFSET, as 2-4711; `gateway dlq list --each` has them"
            )
        known = int(partition) in require(self._bootstrap, self._topic)
        for found in self._read_partition(int(partition)) if known else []:
            if found.letter.offset == int(offset):
                return found
        raise ConfigurationError(f"no dead letter of {place} in {self._topic}; `gateway dlq list --each` has them")

    def replay(self, chosen: Sequence[FoundLetter], by: str) -> Replayed:
        """Send the originals to their own topic and partition, and note it, all in one transaction.

        A letter keeps only the beginning of its payload, so the message itself is read again. Of two who replay at
        once the later begins after the earlier has sent, or sends in his place; what was sent since it was chosen
        is left out.

        Raises:
            ServiceUnavailable: nothing was sent, or, as it says, that is not known.
        """
        producer = Producer(
            {
                "bootstrap.servers": self._bootstrap,
                # One for all: who begins ends what another has left open, and what was sent before him is known.
                "transactional.id": f"dlq-replay-{self._topic}",
                "transaction.timeout.ms": TRANSACTION_TIMEOUT_MS,
                "queue.buffering.max.messages": MOST_QUEUED,
                "log_level": 0,
            }
        )
        with translating("nothing was sent"):
            producer.init_transactions(CONTROL_TIMEOUT_S)
            sent_since = self._replayed_of({f.letter.partition for f in chosen})
            chosen = [f for f in chosen if f.replayed or f.place not in sent_since]
            originals = self._originals(chosen)
            expired = [f.place for f, original in originals if original is None]
            producer.begin_transaction()
            for found, original in originals:
                if original is not None:
                    self._send(producer, found, original, by)
            producer.flush(CONTROL_TIMEOUT_S)
        with translating("whether they were sent is not known: look with `ultrathink gateway dlq list`"):
            producer.commit_transaction(CONTROL_TIMEOUT_S)
        return Replayed(len(chosen) - len(expired), expired)

    def _send(
        self, producer: Producer, found: FoundLetter, original: tuple[bytes | None, bytes | None], by: str
    ) -> None:
        """The message, and the note of it; waits for room in the producer."""
        key, value = original
        letter = found.letter
        headers: list[tuple[str, str | bytes | None]] = [(REPLAY_OF, found.place), (REPLAYED_BY, by)]
        marks: list[tuple[str, str | bytes | None]] = [(NOTE, b"replayed")]
        note = encode(Note(found.place, by, time.time_ns()))
        for topic, content, marked in ((letter.topic, value, headers), (self._topic, note, marks)):
            while True:
                try:
                    producer.produce(topic, content, key, partition=letter.partition, headers=marked)
                except BufferError:
                    producer.poll(ROOM_S)
                else:
                    break

    def _replayed_of(self, partitions: set[int]) -> set[str]:
        """Places that were sent by now; a note behind a transaction that is still open would not be seen."""
        with closing(Watermarks(self._bootstrap)) as watermarks:
            for partition in sorted(partitions):
                watermarks.wait_until_settled(self._topic, partition, SETTLED_S)
        return {f.place for p in sorted(partitions) for f in self._read_partition(p) if f.replayed}

    def _read_partition(self, partition: int) -> list[FoundLetter]:
        found: dict[str, FoundLetter] = {}
        low, _ = bounds(self._bootstrap, self._topic, partition)
        for messages in read_to_end(self._bootstrap, self._topic, partition, low):
            for message in messages:
                try:
                    if is_note(message):
                        note = _notes.read(as_bytes(message.value()))
                        if note.replay_of in found:
                            found[note.replay_of] = structs.replace(found[note.replay_of], replayed=True)
                        continue
                    letter = _letters.read(as_bytes(message.value()))
                except BadRecord:
                    self.bad += 1
                    continue
                made = FoundLetter(letter, message.timestamp()[1] * MS)
                found.setdefault(made.place, made)
        return list(found.values())

    def _originals(
        self, chosen: Sequence[FoundLetter]
    ) -> list[tuple[FoundLetter, tuple[bytes | None, bytes | None] | None]]:
        """Key and value of each letter's message; None when the log no longer holds it."""
        places = {(f.letter.topic, f.letter.partition) for f in chosen}
        with closing(Watermarks(self._bootstrap)) as watermarks:
            lows = {place: watermarks.bounds(*place)[0] for place in places}
        consumer: Consumer = reader(self._bootstrap)
        try:
            return [(f, self._original(consumer, f.letter, lows)) for f in chosen]
        finally:
            consumer.close()

    @staticmethod
    def _original(
        consumer: Consumer, letter: DeadLetter, lows: dict[tuple[str, int], int]
    ) -> tuple[bytes | None, bytes | None] | None:
        if letter.offset < lows[letter.topic, letter.partition]:
            return None
        consumer.assign([TopicPartition(letter.topic, letter.partition, letter.offset)])
        deadline = time.monotonic() + CONTROL_TIMEOUT_S
        while time.monotonic() < deadline:
            message = consumer.poll(0.5)
            if message is not None and usable(message):
                same = message.offset() == letter.offset
                return (message.key(), message.value()) if same else None
        raise ServiceUnavailable(f"{letter.topic}[{letter.partition}] cannot be read at {letter.offset}")


def summarise(found: Sequence[FoundLetter]) -> list[LetterSummary]:
    """One line a reason, the most frequent first; numbers within a reason count as the same."""
    groups: dict[str, list[FoundLetter]] = {}
    for each in found:
        groups.setdefault(general(each.letter.reason), []).append(each)
    lines = [
        LetterSummary(
            reason,
            len(those),
            sum(f.replayed for f in those),
            min(f.at_ns for f in those),
            max(f.at_ns for f in those),
            max(those, key=lambda f: f.at_ns).place,
        )
        for reason, those in groups.items()
    ]
    return sorted(lines, key=lambda line: -line.count)


def general(reason: str) -> str:
    """A reason without its numbers and names."""
    words = (word if not any(c.isdigit() for c in word) else "…" for word in reason.split())
    kept = list(words)
    if kept[:2] == ["unknown", "symbol"]:
        kept[2:3] = ["…:"]
    return " ".join(kept)
