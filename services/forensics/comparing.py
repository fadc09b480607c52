"""What is stored and not signed yet, against what Kafka has there: nothing that came from elsewhere is signed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256

from msgspec import Struct

from services.forensics.checkpoints import TreeHead
from services.forensics.merkle.hashing import EMPTY_ROOT
from services.forensics.ports import LogHead, Source, Tail, Trail
from services.forensics.records import Record, leaf_of

#: Digits of a digest that binds what was seen to what is accepted.
SHOWN = 32
NONE = b"none"
END = 2**63
#: Records between two signs of life.
EVERY = 2000


class Compared(Struct, frozen=True):
    """What a comparison came to; both are "" where all is as it must be.

    Attributes:
        differs: rows that Kafka has otherwise, or not, and the other way round. Somebody may look and accept it:
            the sentence is of these rows alone, and another for others.
        damaged: batches, trees and rows do not fit one another: no human's word mends that.
    """

    differs: str = ""
    damaged: str = ""


def compare_log(
    head: LogHead, last: TreeHead | None, trail: Trail, source: Source, lives: Callable[[int], None]
) -> Compared:
    """Compare what follows what was signed of a log with what Kafka has there.

    Args:
        head: of the log, as it is stored.
        last: as it was signed last; None where it never was.
        trail, source: where both are read.
        lives: told how many records were looked at, now and then; may raise to end it.

    Raises:
        ServiceUnavailable: Kafka or the database does not answer.
    """
    name = head.name
    size, root = (0, EMPTY_ROOT) if last is None else (last.size, bytes.fromhex(last.root))
    if head.tree.size < size:
        # It is being built again, and compared with the root when it is as far.
        return Compared()
    with trail.tail(name, size, root) as tail:
        if tail is None:
            return Compared(damaged=f"the first {size} records of {name} are not those that were signed")
        return compare_tail(head, tail, watched(source.committed(name, tail.next_offset, head.next_offset), lives))


def watched(records: Iterable[Record], lives: Callable[[int], None]) -> Iterator[Record]:
    """The same, while somebody is told."""
    for number, record in enumerate(records):
        if not number % EVERY:
            lives(number)
        yield record


def compare_tail(head: LogHead, tail: Tail, committed: Iterable[Record]) -> Compared:
    """Compare row by row, both ways, holding two of them at a time.

    Args:
        head: of the log, as it is stored.
        tail: its tree at what was signed, and all rows after it.
        committed: what Kafka has from there to the end of what is stored, in order.
    """
    tree, digest, count = tail.tree.copy(), sha256(), 0
    first = last = end = -1
    damaged = ""
    for offset, rows, leaf in merged(tail.rows, committed):
        for index, mine in rows:
            if index != tree.size:
                damaged = damaged or f"the row at offset {offset} of {head.name} is not at its place in the tree"
            tree.append(mine)
            end = offset + 1
        if [mine for _, mine in rows] != ([] if leaf is None else [leaf]):
            first, last, count = (offset if first < 0 else first), offset, count + 1
            for part in [mine for _, mine in rows] or [NONE, leaf or NONE]:
                digest.update(offset.to_bytes(8, "big") + part)
    if tree.peaks != head.tree.peaks or (end >= 0 and end != head.next_offset):
        damaged = damaged or f"the batches of {head.name} are not those of its unsigned records"
    if not count:
        return Compared(damaged=damaged)
    differs = (
        f"{count} unsigned records of {head.name}, offsets {first} to {last}, are not those that Kafka has "
        f"({digest.hexdigest()[:SHOWN]})"
    )
    return Compared(differs, damaged)


def merged(
    stored: Iterable[tuple[int, int, bytes]], committed: Iterable[Record]
) -> Iterator[tuple[int, list[tuple[int, bytes]], bytes | None]]:
    """Offset, the rows that are stored there (index and leaf), and the leaf of Kafka's record there, in order."""
    rows, records = iter(stored), iter(committed)
    row, record = next(rows, None), next(records, None)
    while row is not None or record is not None:
        offset = min(END if row is None else row[0], END if record is None else record.offset)
        mine: list[tuple[int, bytes]] = []
        while row is not None and row[0] == offset:
            mine.append((row[1], row[2]))
            row = next(rows, None)
        leaf = None
        if record is not None and record.offset == offset:
            leaf = leaf_of(record)
            record = next(records, None)
        yield offset, mine, leaf
