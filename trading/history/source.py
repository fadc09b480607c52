"""What every reader gives: records in time order, and what it dropped."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path

from msgspec import Struct

from trading.arrays import BoolArray, Float32Array
from trading.errors import SourceError
from trading.market import Tick, TickBatch


class Record(Struct, frozen=True):
    """A recorded tick and when it arrived at the recorder (its event time where unknown), in ns."""

    arrival_ns: int
    tick: Tick


class LivedBatch(Struct, frozen=True):
    """n ticks as a desk lived them.

    Attributes:
        ticks: in the order of their arrival.
        features: float32 [n, 32], as the desk saw them.
        warm: bool [n], whether they mean anything.
    """

    ticks: TickBatch
    features: Float32Array
    warm: BoolArray


class BadLine(Struct, frozen=True):
    """A line that is no tick; `number` counts from 1."""

    number: int
    reason: str


class Dropped:
    """Counts the lines that a reader could not use and keeps the first of them."""

    KEPT = 20

    def __init__(self) -> None:
        self.count = 0
        self.first: list[BadLine] = []

    def add(self, number: int, reason: str) -> None:
        """Note a bad line."""
        self.count += 1
        if len(self.first) < self.KEPT:
            self.first.append(BadLine(number, reason))


class Source:
    """A named, re-readable stream of recorded ticks, larger than memory if need be.

    Attributes:
        spec: the SOURCE string that it came from.
        dropped: bad lines of the latest reading.
    """

    def __init__(
        self,
        spec: str,
        read: Callable[[Dropped], Iterator[Record]],
        read_batches: Callable[[Dropped, int], Iterator[TickBatch]] | None = None,
    ) -> None:
        """`read_batches` gives the same ticks by column, for a format that is kept so."""
        self.spec = spec
        self.dropped = Dropped()
        self._read = read
        self._read_batches = read_batches

    def records(self) -> Iterator[Record]:
        """Read from the start. Raises SourceError when the file is of another kind."""
        self.dropped = Dropped()
        found = False
        for record in self._read(self.dropped):
            found = True
            yield record
        if not found:
            raise self._empty()

    def batches(self, size: int) -> Iterator[TickBatch]:
        """The ticks of `records`, up to `size` at a time. Raises as `records` does."""
        if self._read_batches is None:
            records = self.records()
            while ticks := [record.tick for record in islice(records, size)]:
                yield TickBatch.from_ticks(ticks)
            return
        self.dropped = Dropped()
        found = False
        for batch in self._read_batches(self.dropped, size):
            found = True
            yield batch
        if not found:
            raise self._empty()

    def _empty(self) -> SourceError:
        first = self.dropped.first
        why = f"; line {first[0].number}: {first[0].reason}" if first else ""
        return SourceError(f"{self.spec} holds no tick{why}")


class LivedSource(Source):
    """Ticks with the features that a desk saw of them.

    Attributes:
        first_ns: when each symbol was first seen, which may be long before the first tick here; of others the
            first tick here is meant.
        left_out: ticks that are not given, by reason.
    """

    def __init__(
        self,
        spec: str,
        batches: Callable[[int], Iterator[LivedBatch]],
        first_ns: Mapping[str, int],
        left_out: Mapping[str, int],
    ) -> None:
        super().__init__(spec, lambda _: iter(()), lambda _, size: (one.ticks for one in batches(size)))
        self.lived = batches
        self.first_ns, self.left_out = dict(first_ns), dict(left_out)


def existing(path: str, suffixes: tuple[str, ...], what: str) -> Path:
    """The path, if it is a readable file with one of the suffixes."""
    file = Path(path).expanduser()
    if not path:
        raise SourceError(f"no path given: expected {what}")
    if not file.is_file():
        raise SourceError(f"{file} is no file: expected {what}")
    if not file.name.endswith(suffixes):
        raise SourceError(f"{file} does not end in {' or '.join(suffixes)}: expected {what}")
    return file
