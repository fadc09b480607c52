"""Snapshots as bytes: self-describing, checked, and free of anything that could run.

A snapshot that is cut short, was made by another version, or belongs to another log is refused;
the restart then reads more of the log, and is slower, never wrong.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta, Struct

from trading.encoding import Count, Int64, Records
from trading.errors import BadRecord
from trading.features import kernel
from trading.features.definitions import FEATURE_VERSION
from trading.portfolio.book import LAYOUT, BookDump
from trading.state.partition import FeatureDump, Snapshot

DIGEST_BYTES = 16
#: Kafka refuses messages above 1 MB by default.
CHUNK_BYTES = 512 * 1024
#: Of one snapshot: two gigabytes.
MOST_CHUNKS = 4096
#: Of a log that continues no other.
NO_OTHER: Mapping[str, int] = MappingProxyType({})


class StoredSnapshot(Struct, frozen=True, array_like=True):
    """What the bytes hold. `log` names the very log whose past this is."""

    log: str
    feature_version: int
    partition: int
    offset: Count
    decisions_from: Count
    symbols: list[str]
    ints: bytes
    floats: bytes
    book: BookDump
    limits: bytes
    fills_to: Int64
    control_to: Int64


class Chunk(Struct, frozen=True, array_like=True):
    """A part of an encoded snapshot, small enough for one message."""

    offset: Count
    number: Annotated[int, Meta(ge=0, lt=MOST_CHUNKS)]
    count: Annotated[int, Meta(ge=1, le=MOST_CHUNKS)]
    content: bytes


class UnusableSnapshot(Exception):
    """The bytes are no snapshot of this log and version."""


class ForeignSnapshot(UnusableSnapshot):
    """A snapshot of another log, named by `log`, before the tick at `offset` there."""

    def __init__(self, message: str, log: str, offset: int) -> None:
        super().__init__(message)
        self.log, self.offset = log, offset


_snapshots, _chunks = Records(StoredSnapshot, packed=True), Records(Chunk, packed=True)
_encode = msgspec.msgpack.Encoder().encode


def encode_snapshot(snapshot: Snapshot, log: str) -> bytes:
    """Digest and content."""
    dump = snapshot.features
    content = _encode(
        StoredSnapshot(
            log,
            FEATURE_VERSION,
            snapshot.partition,
            snapshot.offset,
            snapshot.decisions_from,
            dump.symbols,
            dump.ints.tobytes(),
            dump.floats.tobytes(),
            snapshot.book,
            snapshot.limits,
            snapshot.fills_to,
            snapshot.control_to,
        )
    )
    return digest(content) + content


def decode_snapshot(payload: bytes, log: str, partition: int, was: Mapping[str, int] = NO_OTHER) -> Snapshot:
    """Of a log, or of what it continues: name -> the tick after the last that was decided under it.

    Raises UnusableSnapshot, which says why.
    """
    content = payload[DIGEST_BYTES:]
    if digest(content) != payload[:DIGEST_BYTES]:
        raise UnusableSnapshot("its digest does not fit: it was cut short or changed")
    try:
        found = _snapshots.read(content)
        symbols = len(found.symbols)
        ints = np.frombuffer(found.ints, np.int64).reshape(symbols, kernel.INT_WIDTH)
        floats = np.frombuffer(found.floats, np.float64).reshape(symbols, kernel.FLOAT_WIDTH)
    except (BadRecord, ValueError) as error:
        raise UnusableSnapshot(f"it was made by another version ({error})") from error
    if found.log != log and found.offset > was.get(found.log, -1):
        raise ForeignSnapshot(f"it is of the log {found.log}; this is {log}", found.log, found.offset)
    if (found.partition, found.feature_version) != (partition, FEATURE_VERSION):
        raise UnusableSnapshot(
            f"it is of {found.log}[{found.partition}], features {found.feature_version}; "
            f"this is {log}[{partition}], features {FEATURE_VERSION}"
        )
    if found.book.layout != LAYOUT:
        raise UnusableSnapshot("its book was made by another version")
    return Snapshot(
        partition=partition,
        offset=found.offset,
        decisions_from=found.decisions_from,
        features=FeatureDump(found.symbols, ints, floats),
        book=found.book,
        limits=found.limits,
        fills_to=found.fills_to,
        control_to=found.control_to,
    )


def to_chunks(payload: bytes, offset: int) -> list[tuple[bytes, bytes]]:
    """Keys and values for a compacted topic: the newest chunk of each number is kept."""
    pieces = [payload[k : k + CHUNK_BYTES] for k in range(0, len(payload), CHUNK_BYTES)]
    return [
        (f"chunk-{number}".encode(), _encode(Chunk(offset, number, len(pieces), piece)))
        for number, piece in enumerate(pieces)
    ]


def newest_whole(values: list[bytes]) -> bytes | None:
    """The newest snapshot whose chunks are all among `values`, which are in log order.

    By its place in the log, not by its offset: that of a topic that was made anew begins again.
    """
    parts: dict[int, dict[int, Chunk]] = {}
    for value in values:
        try:
            chunk = _chunks.read(value)
        except BadRecord:
            continue
        known = parts.pop(chunk.offset, {})
        parts[chunk.offset] = {**known, chunk.number: chunk}
    for chunks in reversed(parts.values()):
        if set(chunks) == set(range(next(iter(chunks.values())).count)):
            return b"".join(chunks[k].content for k in range(len(chunks)))
    return None


def digest(content: bytes) -> bytes:
    """Finds accidents; who may write here is the server's business."""
    return hashlib.blake2b(content, digest_size=DIGEST_BYTES).digest()
