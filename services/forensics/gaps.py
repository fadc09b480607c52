"""Offsets at which the trail has no record, each explained by what Kafka shows there.

An offset is a committed record's, or an aborted one's, or a transaction's end marker's, which no reader is shown;
or it lies before what Kafka still holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import StrEnum

from msgspec import Struct


class Gap(StrEnum):
    """Why an offset has no record in the trail; the last two should not be."""

    MARKER = "marker"
    ABORTED = "aborted"
    BEFORE_LOG = "before_log"
    NOT_ON_RECORD = "not_on_record"
    ONLY_ON_RECORD = "only_on_record"


#: What nobody should find.
WRONG = frozenset({Gap.NOT_ON_RECORD, Gap.ONLY_ON_RECORD})


class GapRun(Struct, frozen=True):
    """Consecutive offsets with one explanation, both inclusive; of `only_on_record` the trail has a record."""

    first: int
    last: int
    why: Gap

    @property
    def count(self) -> int:
        """How many offsets."""
        return self.last - self.first + 1


#: Runs of a log that are kept one by one, beside those that should not be.
MOST_RUNS = 1000


class LogGaps(Struct):
    """The offsets of one log up to the last that is on record, and how far Kafka is.

    Attributes:
        log, topic_id: which.
        records: on record.
        looked_to: the offset after the last that is on record.
        newer: committed records in Kafka that are not on record yet.
        counts: explanation -> offsets.
        runs: gaps in order, the first of them.
        wrong: those that should not be, the first of them.
        note: why a log could not be looked at; "" where it was.
    """

    log: str
    topic_id: str
    records: int = 0
    looked_to: int = 0
    newer: int = 0
    counts: dict[str, int] = {}
    runs: list[GapRun] = []
    wrong: list[GapRun] = []
    note: str = ""

    def take(self, run: GapRun) -> None:
        """One more."""
        self.counts[run.why.value] = self.counts.get(run.why.value, 0) + run.count
        if len(self.runs) < MOST_RUNS:
            self.runs.append(run)
        if run.why in WRONG and len(self.wrong) < MOST_RUNS:
            self.wrong.append(run)

    def count(self, why: Gap) -> int:
        """Offsets with an explanation."""
        return self.counts.get(why.value, 0)


class _Seen:
    """Ascending offsets, asked one after another."""

    def __init__(self, offsets: Iterable[int]) -> None:
        self._rest = iter(offsets)
        self._next = next(self._rest, -1)

    def has(self, offset: int) -> bool:
        """Whether it is among them; ask in ascending order."""
        while -1 < self._next < offset:
            self._next = next(self._rest, -1)
        return self._next == offset


def explain(
    on_record: Iterable[int], committed: Iterable[int], all_records: Iterable[int], held_from: int, end: int
) -> Iterator[GapRun]:
    """Every offset from 0 to before `end` that is not both on record and committed, as runs.

    Args:
        on_record: offsets in the trail, ascending; retired ones too.
        committed: offsets that a read-committed reader is given, ascending.
        all_records: offsets that a read-uncommitted reader is given, ascending.
        held_from: the first offset that Kafka still holds.
        end: after the last offset that is on record.
    """
    trail, kept, written = _Seen(on_record), _Seen(committed), _Seen(all_records)
    first, why = 0, None
    for offset in range(end):
        known = trail.has(offset)
        found = why_of(offset, held_from, kept, written, known=known)
        if found is not why:
            if why is not None:
                yield GapRun(first, offset - 1, why)
            first, why = offset, found
    if why is not None:
        yield GapRun(first, end - 1, why)


def why_of(offset: int, held_from: int, committed: _Seen, written: _Seen, *, known: bool) -> Gap | None:
    """One offset; None where the trail has what Kafka has."""
    if offset < held_from:
        return None if known else Gap.BEFORE_LOG
    kept = committed.has(offset)
    if known:
        return None if kept else Gap.ONLY_ON_RECORD
    if kept:
        return Gap.NOT_ON_RECORD
    return Gap.ABORTED if written.has(offset) else Gap.MARKER
