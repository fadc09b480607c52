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


class LogGaps(Struct):
    """The offsets of one log up to the last that is on record.

    Attributes:
        log: its name.
        records: on record.
        runs: every gap, in order.
    """

    log: str
    records: int
    runs: list[GapRun]

    def count(self, why: Gap) -> int:
        """Offsets with an explanation."""
        return sum(run.count for run in self.runs if run.why is why)

    @property
    def wrong(self) -> list[GapRun]:
        """What should not be."""
        return [run for run in self.runs if run.why in WRONG]


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
