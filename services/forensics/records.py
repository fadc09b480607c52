"""A record as it lies in Kafka, and the bytes that its leaf in the tree is made of."""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct as Layout

from msgspec import Struct

from services.forensics.merkle.hashing import hash_leaf

#: Version of the leaf's form, then big-endian: offset, kind of the timestamp, timestamp, and three lengths.
LEAF_VERSION = 1
_HEAD, _LENGTH = Layout(">BqbqIII"), Layout(">I")
#: The length of what is absent.
ABSENT = 2**32 - 1
Headers = Sequence[tuple[str, bytes | None]]


class Record(Struct, frozen=True, gc=False):
    """One record of a partition.

    Attributes:
        offset: in its partition.
        timestamp_type: 0 none, 1 by the producer's clock, 2 by the broker's.
        timestamp_ms: milliseconds since 1970.
        key, value: as they were published; None where there was none.
        headers: by `encode_headers`; None where there were none.
    """

    offset: int
    timestamp_type: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: bytes | None = None


def encode_headers(headers: Headers) -> bytes | None:
    """Headers as bytes that differ wherever they do: order counts, and an absent value is not an empty one."""
    if not headers:
        return None
    parts = []
    for name, value in headers:
        for part in (name.encode("utf-8", "surrogateescape"), value):
            parts.append(_LENGTH.pack(ABSENT if part is None else len(part)))
            parts.append(part or b"")
    return b"".join(parts)


def leaf_of(record: Record) -> bytes:
    """The hash of the record's leaf: every byte that was published, with its place and time in the log."""
    key, value, headers = record.key, record.value, record.headers
    head = _HEAD.pack(
        LEAF_VERSION,
        record.offset,
        record.timestamp_type,
        record.timestamp_ms,
        ABSENT if key is None else len(key),
        ABSENT if value is None else len(value),
        ABSENT if headers is None else len(headers),
    )
    return hash_leaf(b"".join((head, key or b"", value or b"", headers or b"")))
