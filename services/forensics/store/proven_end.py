"""Where the signed part of a log ends, as its own last record proves."""

from __future__ import annotations

from services.forensics.merkle.proofs import TreeReader, check_inclusion, inclusion_path
from services.forensics.merkle.tree import GrowingTree, from_bytes
from services.forensics.records import leaf_of
from services.forensics.store.reading import LogHashes, LogRow, TrailReader
from trading.errors import ConfigurationError


def signed_end(reader: TrailReader, log: LogRow, size: int, root: bytes) -> tuple[GrowingTree, int] | None:
    """The tree of the first `size` records, and the offset after them; None where they have not got this root."""
    if not size:
        return GrowingTree(), 0
    batch = reader.batch_before(log.id, size)
    if batch is None or batch.to_size != size:
        return None
    try:
        tree = GrowingTree(size, from_bytes(batch.peaks))
        path = inclusion_path(TreeReader(LogHashes(reader, log)), size - 1, size)
    except (ValueError, ConfigurationError):
        # Some of it is missing, or is no hash.
        return None
    record = reader.record_at(log, size - 1)
    if record is None:
        # Retired: its leaf is proven, its place is what the batch says.
        (leaf,), offset = reader.leaves(log, size - 1, size), batch.last_offset
    else:
        leaf, offset = leaf_of(record), record.offset
    whole = tree.root() == root and check_inclusion(leaf, size - 1, size, path, root)
    return (tree, offset + 1) if whole and offset == batch.last_offset else None
