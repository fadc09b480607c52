"""A log's rows, batches and tiles, read once in order, compared with each other and with what was signed.

Where rows and the batch above them disagree, one of the two was changed: the trees of both are carried on until a
signed root tells which, so that what follows is verified all the same.
"""

from __future__ import annotations

import struct
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from heapq import merge
from itertools import pairwise

from msgspec import Struct

from services.forensics.ahead import Ahead
from services.forensics.columns import Values
from services.forensics.findings import Finding, of_records
from services.forensics.kinds import BY_NAME, RETIRABLE, columns_of, row_of
from services.forensics.merkle.hashing import hash_leaf
from services.forensics.merkle.tree import GrowingTree, fold, from_bytes
from services.forensics.records import leaf_of
from services.forensics.store.reading import (
    EVENT_TIME,
    INDEX,
    OFFSET,
    BatchRow,
    LogRow,
    RetiredRow,
    TrailReader,
    to_record,
)

#: Of a log that was changed everywhere the first are told one by one.
MOST_FINDINGS = 10_000
#: Trees that may be the right one, until a signed root tells.
MOST_CANDIDATES = 4


class Segment(Struct, frozen=True):
    """Records `begin` to before `end` of a log; `batch` is what says so, None where nothing does."""

    begin: int
    end: int
    batch: BatchRow | None


class Candidate(Struct, frozen=True):
    """A tree that may be the right one, and the tiles that it has completed since the last signed root."""

    tree: GrowingTree
    tiles: dict[tuple[int, int], bytes]

    def grown(self, leaves: list[bytes]) -> Candidate:
        """With more leaves."""
        tree, tiles = self.tree.copy(), dict(self.tiles)
        for leaf in leaves:
            for tile in tree.append(leaf):
                tiles[tile.level, tile.index] = tile.hash
        return Candidate(tree, tiles)


def unknown_tree(size: int) -> GrowingTree:
    """One of which nothing is known but its size."""
    return GrowingTree(size, [b""] * size.bit_count())


class LogVerifier:
    """One pass over one log, from a tree that is trusted to the end.

    Attributes:
        findings: so far.
        size: how many records were found.
        proven_to: how many of the first are as they were signed.
    """

    def __init__(
        self,
        reader: TrailReader,
        log: LogRow,
        signed: Mapping[int, bytes],
        advance: Callable[[int], None] = lambda _: None,
        retirable: int = 0,
    ) -> None:
        """Prepare.

        Args:
            reader: of the trail.
            log: whose rows.
            signed: size -> root, of every checkpoint that counts.
            advance: told how many more records were looked at.
            retirable: so many of the first records are old enough to be gone, but for their leaves.
        """
        self._reader, self._log, self._signed, self._advance = reader, log, signed, advance
        self._retirable = retirable if log.kind in RETIRABLE else 0
        self._kind = BY_NAME[log.kind]
        self._columns = columns_of(self._kind)
        self._sizes = sorted(signed)
        self._candidates: list[Candidate] = []
        self._tiles: dict[tuple[int, int], bytes] = {}
        #: Of tiles over records that are missing nothing can be said.
        self._unknown: list[tuple[int, int]] = []
        self._forked = False
        self.findings: list[Finding] = []
        self._more = 0
        self.size = self.proven_to = 0

    def run(self, start: GrowingTree, first_offset: int, to_size: int | None = None) -> None:
        """Look at everything after `start`, whose next record lies at `first_offset` or later, up to a size."""
        self.size = self.proven_to = start.size
        self._candidates = [Candidate(start, {})]
        held = self._reader.rows(self._log.kind, self._log.id, first_offset)
        gone = self._reader.retired(self._log.id, first_offset)
        rows = Ahead(merge(held, gone, key=lambda row: row[OFFSET]))
        for segment in self._segments(to_size):
            self._check(segment, up_to(rows, segment.end))
        if to_size is None:
            for place, row in enumerate(rows.rest(), self.size):
                self._found("inserted", "a row that no batch holds", place, place, row[OFFSET])
        wanted = max((size for size in self._signed if to_size is None or size <= to_size), default=0)
        if wanted > self.size:
            if self.proven_to < self.size and not self._told(self.proven_to, self.size - 1):
                self._found("unsigned", "no signed root fits them", self.proven_to, self.size - 1)
            self._found("missing", f"{wanted} records were signed", self.size, wanted - 1)
        self._check_tiles(start.size, whole=to_size is None)
        if self._more:
            said = f"{self._more:,} more places are not as they were signed"
            self.findings.append(of_records("altered", self._log.name, said, (0, self.size - 1)))

    def _segments(self, to_size: int | None) -> Iterator[Segment]:
        """Each begins where the one before ended."""
        size, batches = self.size, Ahead(self._reader.batches(self._log.id, self.size))
        while (batch := batches.take()) is not None:
            if to_size is not None and size >= to_size:
                return
            following, later = batches.see(0), batches.see(1)
            if batch.from_size > size:
                self._found("batch", "no batch holds these records", size, batch.from_size - 1)
                yield Segment(size, batch.from_size, None)
            size = batch.from_size
            if following is not None and following.from_size < batch.to_size:
                if later is None or later.from_size != batch.to_size:
                    self._found("batch", "it reaches into the next", size, following.from_size - 1)
                    yield Segment(size, following.from_size, None)
                    size = following.from_size
                    continue
                self._found("batch", "overlaps another batch", following.from_size, following.from_size)
                batches.take()
            if batch.to_size <= size:
                self._found("batch", "it ends before it begins", size, size)
                continue
            yield Segment(size, batch.to_size, batch)
            size = batch.to_size

    def _check(self, segment: Segment, rows: list[Values]) -> None:
        before = len(self.findings)
        whole = self._check_rows(segment, rows)
        claimed = self._claimed(segment)
        made = self._extended(segment, rows) if whole else []
        if not whole:
            self._forget_tiles(segment)
        if claimed is not None:
            if made and all(one.tree.peaks != claimed.peaks for one in made) and len(self.findings) == before:
                self._of_segment("batch", "its tree is not that of its records", segment)
            made.append(Candidate(claimed, made[0].tiles if made else {}))
        if segment.batch is not None and whole and len(self.findings) == before:
            self._check_batch(segment, segment.batch, rows)
        self._advance(len(rows))
        # Where nothing says what the tree is, no later root can fit either.
        self._settle(segment.end, made or [Candidate(unknown_tree(segment.end), {})])

    def _check_rows(self, segment: Segment, rows: list[Values]) -> bool:
        """Each row against its own bytes; whether there are as many as there must be."""
        if len(rows) == segment.end - segment.begin:
            for index, row in enumerate(rows, segment.begin):
                self._check_row(row, index)
            return True
        seen: set[int] = set()
        place = segment.begin
        for row in rows:
            index = row[INDEX]
            if index in seen or not segment.begin <= index < segment.end:
                # What it says of its place is not to be believed.
                self._found("inserted", "a row that is no record of the log", place, place, row[OFFSET])
                continue
            seen.add(index)
            place = index
            self._check_row(row, index)
        # By the gaps between those that are there: what a forged batch claims may be endless.
        for before, after in pairwise([segment.begin - 1, *sorted(seen), segment.end]):
            if after - before > 1:
                self._found("missing", "not in the trail", before + 1, after - 1)
        return False

    def _check_row(self, row: Values, index: int) -> None:
        """All that is searched by, and the leaf, made again from the record's bytes; where it is gone, its age."""
        if isinstance(row, RetiredRow):
            at = row.record_offset
            if row.leaf_index != index:
                self._found("altered", "a retired leaf is told of another place", index, index, at)
            if index >= self._retirable:
                self._found("retired", "it was retired before its time", index, index, at)
            return
        record = to_record(row)
        try:
            made = row_of(self._kind, self._log.id, index, record, leaf_of(record))
        except struct.error as error:
            self._found("altered", f"it has a number that no record has: {error}", index, index, row[OFFSET])
            return
        if row != made and (names := differing(self._columns, row, made)):
            self._found("altered", f"differs from its own bytes in {', '.join(names)}", index, index, row[OFFSET])

    def _claimed(self, segment: Segment) -> GrowingTree | None:
        """The tree that the batch says there is after it; None where there is none, or it is damaged."""
        if segment.batch is None:
            return None
        try:
            tree = GrowingTree(segment.end, from_bytes(segment.batch.peaks))
        except ValueError as error:
            self._of_segment("batch", f"its tree is damaged: {error}", segment)
            return None
        if fold(tree.peaks) != segment.batch.root:
            self._of_segment("batch", "its root is not that of its tree", segment)
        return tree

    def _check_batch(self, segment: Segment, batch: BatchRow, rows: list[Values]) -> None:
        offsets = batch.first_offset, batch.last_offset
        wrong = offsets != (rows[0][OFFSET], rows[-1][OFFSET])
        if not wrong and not any(isinstance(row, RetiredRow) for row in rows):
            times = [row[EVENT_TIME] for row in rows]
            wrong = (batch.first_event_time, batch.last_event_time) != (min(times), max(times))
        if wrong:
            self._of_segment("batch", "its offsets or times are not those of its records", segment)

    def _extended(self, segment: Segment, rows: list[Values]) -> list[Candidate]:
        """The candidates with the leaves of these rows; at each size that was signed, those that fit."""
        leaves = [row.leaf if isinstance(row, RetiredRow) else own_leaf(row) for row in rows]
        begin = 0
        cuts = self._sizes[bisect_right(self._sizes, segment.begin) : bisect_left(self._sizes, segment.end)]
        for end in [*(cut - segment.begin for cut in cuts), len(leaves)]:
            grown = [one.grown(leaves[begin:end]) for one in self._candidates]
            if end == len(leaves):
                return grown
            self._settle(segment.begin + end, grown)
            begin = end
        return []

    def _settle(self, size: int, candidates: list[Candidate]) -> None:
        """Which trees may be the right one at this size."""
        self.size = size
        distinct = list({b"".join(one.tree.peaks): one for one in reversed(candidates)}.values())[::-1]
        root = self._signed.get(size)
        if root is None:
            self._candidates = distinct[-MOST_CANDIDATES:]
            return
        fitting = [one for one in distinct if b"" not in one.tree.peaks and one.tree.root() == root]
        if fitting:
            self.proven_to, self._forked = size, False
        elif not self._forked and not self._told(self.proven_to, size - 1):
            self._found("unsigned", "they are not what was signed", self.proven_to, size - 1)
            self._forked = True
        chosen = (fitting or distinct[-1:])[0]
        self._tiles.update(chosen.tiles)
        self._candidates = [Candidate(chosen.tree, {})]

    def _told(self, first: int, last: int) -> bool:
        """Whether something was found among these records already."""
        return any(f.first_index <= last and f.last_index >= first for f in self.findings)

    def _check_tiles(self, since: int, *, whole: bool) -> None:
        """The stored hashes of subtrees against those of the records."""
        self._tiles.update(self._candidates[0].tiles)
        stored = {(level, index): content for level, index, content in self._reader.tiles(self._log.id)}
        for level, index in sorted({*self._tiles, *stored}):
            first, end = index << level, (index + 1) << level
            made = self._tiles.get((level, index))
            if end <= since or self._is_unknown(end):
                continue
            if end > self.size:
                if whole:
                    self._found("tile", f"a hash at level {level} of records that are not there", first, end - 1)
            elif stored.get((level, index)) != made:
                self._found("tile", f"the hash at level {level} is not that of its records", first, end - 1)

    def _forget_tiles(self, segment: Segment) -> None:
        self._unknown.append((segment.begin, segment.end))

    def _is_unknown(self, end: int) -> bool:
        """Whether a tile that ends there was completed by records of which some are missing."""
        return any(first < end <= last for first, last in self._unknown)

    def _of_segment(self, kind: str, detail: str, segment: Segment) -> None:
        self._found(kind, detail, segment.begin, segment.end - 1)

    def _found(self, kind: str, detail: str, first: int, last: int, offset: int = -1) -> None:
        if len(self.findings) < MOST_FINDINGS:
            self.findings.append(of_records(kind, self._log.name, detail, (first, last), (offset, offset)))
        else:
            self._more += 1


def own_leaf(row: Values) -> bytes:
    """The leaf of a record's bytes; of a row with a number that no record has, a hash that is no record's."""
    try:
        return leaf_of(to_record(row))
    except struct.error:
        return hash_leaf(b"")


def up_to(rows: Ahead[Values], end: int) -> list[Values]:
    """Rows before a place in the tree; one that says otherwise is taken too, where the next says that it is."""
    found = []
    while (row := rows.see(0)) is not None:
        following = rows.see(1)
        if row[INDEX] >= end and (following is None or following[INDEX] >= end):
            break
        found.append(row)
        rows.take()
    return found


def differing(columns: Sequence[str], row: Values, made: Values) -> list[str]:
    """Names of the columns whose values are not the same; NaN is the same as NaN."""
    return [
        name
        for name, a, b in zip(columns, row, made, strict=True)
        if a != b and not (isinstance(a, float) and isinstance(b, float) and a != a and b != b)  # noqa: PLR0124 - NaN
    ]
