"""What a verification finds, each with its place."""

from __future__ import annotations

from msgspec import Struct

from services.forensics.ports import LogName


class Finding(Struct, frozen=True):
    """Something that is not as it was signed.

    Attributes:
        kind: altered, missing, inserted: a record's row; batch, tile, log: what stands above records;
            unsigned: a span differs from what was signed; checkpoint: a line.
        place: in words.
        detail: what differs.
        log: of which; None for a checkpoint.
        first_index, last_index: of the records in the tree that it may concern; -1 for none.
        first_offset, last_offset: theirs in the log, as far as they are known; -1 for none.
        number: of a checkpoint; -1 for none.
    """

    kind: str
    place: str
    detail: str
    log: LogName | None = None
    first_index: int = -1
    last_index: int = -1
    first_offset: int = -1
    last_offset: int = -1
    number: int = -1


def of_records(
    kind: str, log: LogName, detail: str, indices: tuple[int, int], offsets: tuple[int, int] = (-1, -1)
) -> Finding:
    """A finding about records of a log, both spans inclusive."""
    first, last = indices
    named = f"record {first}" if first == last else f"records {first} to {last}"
    at = (
        "" if offsets[0] < 0 else f" (offset {offsets[0]}{'' if offsets[0] == offsets[1] else f' to {offsets[1]}'})"
    )
    return Finding(kind, f"{log}, {named}{at}", detail, log, first, last, *offsets)
