"""What the trail needs of the world, as protocols, and the values that pass through them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from msgspec import Struct

from services.forensics.merkle.tree import GrowingTree
from services.forensics.records import Record


class LogName(Struct, frozen=True, order=True):
    """A partition of a topic, by the id that a topic which is made anew does not have.

    Attributes:
        topic_id: Kafka's, in its text form.
        partition: of the topic.
        topic: its name.
    """

    topic_id: str
    partition: int
    topic: str

    def __str__(self) -> str:
        return f"{self.topic}[{self.partition}]"


class LogHead(Struct):
    """How far a log is stored.

    Attributes:
        id: in the store.
        kind: name of the table.
        tree: of all its records.
        next_offset: after the last of them.
    """

    id: int
    name: LogName
    kind: str
    tree: GrowingTree
    next_offset: int


class Stored(Struct, frozen=True):
    """What became of records: how many are new; those at a place that another record holds."""

    new: int
    different: tuple[tuple[LogName, Record], ...] = ()


#: What an alarm may be about.
ALARMS = (
    "different_record", "records_gone", "log_cut", "topic_recreated", "trail_cut", "root_differs",
    "checkpoints_differ", "journal_changed", "not_as_signed",
)  # fmt: skip


class Tail(Struct, frozen=True):
    """What is stored of a log after what was signed.

    Attributes:
        tree: of what was signed.
        next_offset: after the last record of it, as its own leaf says.
        rows: offset, index and leaf of every row from there on, in order; read while they are taken.
    """

    tree: GrowingTree
    next_offset: int
    rows: Iterator[tuple[int, int, bytes]]


class Alarm(Struct, frozen=True):
    """What should not be.

    Attributes:
        kind: a word, as in `ALARMS`.
        detail: a sentence.
        name, offset: where; None where it is not of one place.
        record: the bytes that came, as far as there are any.
    """

    kind: str
    detail: str
    name: LogName | None = None
    offset: int | None = None
    record: bytes | None = None


class Source(Protocol):
    """The topics on the trail. Every method may raise ServiceUnavailable."""

    def logs(self) -> Mapping[LogName, str]:
        """Every partition, with the role of its topic."""

    def topic_ids(self) -> Mapping[str, str]:
        """Topic -> its id now."""

    def bounds(self, name: LogName) -> tuple[int, int]:
        """The first offset that it holds, and the one after its last that is committed."""

    def committed(self, name: LogName, start: int, stop: int) -> Iterator[Record]:
        """The committed records from `start` to before `stop`, as far as there are any."""

    def start(self, places: Mapping[LogName, int]) -> None:
        """Read each from an offset on."""

    def read(self, count: int, timeout_s: float) -> Mapping[LogName, Sequence[Record]]:
        """What has come, in order within each log."""


class Trail(Protocol):
    """Where records are kept. Every method may raise ServiceUnavailable: nothing was kept then."""

    def open(self, name: LogName, kind: str) -> LogHead:
        """How far a log is stored; it is known from here on."""

    def begins_with(self, name: LogName, size: int, root: bytes) -> bool:
        """Whether the first `size` records of a log that has more are those with this root."""

    def tail(self, name: LogName, size: int, root: bytes) -> AbstractContextManager[Tail | None]:
        """All rows after the first `size` records, which have this root; None where what is stored has not."""

    def on_record(self) -> Mapping[LogName, str]:
        """Every log that was ever opened, with its kind."""

    def store(self, records: Mapping[LogName, Sequence[Record]]) -> Stored:
        """Keep what is new, each once, and compare the rest with what is kept."""

    def raise_alarm(self, alarm: Alarm) -> None:
        """Keep what should not be."""

    def keep_checkpoint(self, number: int, signed_at_ns: int, line: bytes) -> None:
        """Keep a signed checkpoint; one of this number that is there already stays."""

    def last_checkpoint(self) -> bytes | None:
        """The line of the highest number."""

    def checkpoints_after(self, number: int) -> Sequence[bytes]:
        """The lines of higher numbers, in order."""


class Observer:
    """Told what happens; this one says nothing of it."""

    def stored(self, kind: str, records: Sequence[Record]) -> None:
        """Records are in the trail."""

    def alarm(self, alarm: Alarm) -> None:
        """Something should not be."""

    def signed(self, signed_at_ns: int, refuses: str) -> None:
        """A checkpoint was signed at a time; `refuses` says why none is."""

    def verified(self, ended_ns: int, findings: int) -> None:
        """When all of it was looked at last, or was to be first; `findings`: how much was not as signed."""

    def turn(self, total: int, waiting: str) -> None:
        """Lives; so many records were stored so far, and what is waited for."""


class Lines(Protocol):
    """A place where lines are added at the end. Every method may raise ServiceUnavailable."""

    def append(self, line: bytes) -> None:
        """Add one; it is there for good when this returns."""

    def lines(self) -> Iterator[bytes]:
        """All, the oldest first."""

    def last(self) -> bytes | None:
        """The newest; None where there is none."""
