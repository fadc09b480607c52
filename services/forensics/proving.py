"""Proofs as files, checked without a server: that a record was signed, that a checkpoint follows from another.

A proof of a record is the record's bytes, the hashes beside its way to the root, and one checkpoint.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from services.forensics.checkpoints import Checkpoint, TreeHead, read
from services.forensics.merkle.hashing import HASH_BYTES
from services.forensics.merkle.proofs import (
    TreeReader,
    check_consistency,
    check_inclusion,
    consistency_path,
    inclusion_path,
)
from services.forensics.ports import LogName
from services.forensics.records import Record, leaf_of
from services.forensics.store.reading import Found, LogHashes, TrailReader
from trading.encoding import Count, Int64, Records, encode
from trading.errors import BadRecord, ConfigurationError
from trading.keys import Keys

#: Of a tree of 2**62 leaves.
LONGEST = 62
Path = Annotated[list[str], Meta(max_length=LONGEST + 1)]


class ProvenRecord(Struct, frozen=True):
    """A record; bytes are base64 in JSON."""

    offset: Count
    timestamp_type: Annotated[int, Meta(ge=0, le=2)]
    timestamp_ms: Int64
    key: bytes | None
    value: bytes | None
    headers: bytes | None


class RecordProof(Struct, frozen=True, tag_field="form", tag="ultrathink-trail-record/1"):
    """That a record is the `leaf_index`-th of a log whose root was signed.

    Attributes:
        topic_id, partition, topic: the log.
        leaf_index: from 0.
        record: byte for byte.
        path: hashes beside the way to the root, in hex, from below.
        checkpoint: the signed line.
    """

    topic_id: str
    partition: Count
    topic: str
    leaf_index: Count
    record: ProvenRecord
    path: Path
    checkpoint: str


class TreeConsistency(Struct, frozen=True):
    """The hashes that show that a tree is the beginning of a later one."""

    topic_id: str
    partition: Count
    path: Path


class ConsistencyProof(Struct, frozen=True, tag_field="form", tag="ultrathink-trail-consistency/1"):
    """That a checkpoint's trees are the beginnings of a later one's."""

    earlier: str
    later: str
    trees: list[TreeConsistency]


class Checked(Struct, frozen=True):
    """What a proof has shown.

    Attributes:
        what: a sentence.
        signed_at_ns: of its (later) checkpoint.
        number: of that checkpoint.
        hashes: in the proof.
        record: for a record.
    """

    what: str
    signed_at_ns: int
    number: int
    hashes: int
    record: ProvenRecord | None = None


_proofs: Records[RecordProof | ConsistencyProof] = Records(RecordProof | ConsistencyProof)  # type: ignore[arg-type]


def prove_record(reader: TrailReader, found: Found, keys: Keys) -> RecordProof:
    """A proof of a record, by the newest checkpoint; it is checked before it is given.

    Raises:
        ConfigurationError: no checkpoint covers it yet, or the trail is not what was signed.
    """
    line = reader.last_checkpoint()
    head, number = None, -1
    if line is not None:
        checkpoint = trusted(line, keys)
        head, number = checkpoint.head(found.log.name), checkpoint.number
    if line is None or head is None or head.size <= found.leaf_index:
        raise ConfigurationError(f"{found.log.name} is not signed up to this record yet: try again in a second")
    tree = TreeReader(LogHashes(reader, found.log))
    path = inclusion_path(tree, found.leaf_index, head.size)
    leaf = leaf_of(found.record)
    if not check_inclusion(leaf, found.leaf_index, head.size, path, bytes.fromhex(head.root)):
        raise ConfigurationError(
            f"record {found.leaf_index} of {found.log.name} is not what checkpoint {number} signed: "
            "`ultrathink forensics verify` tells what was changed"
        )
    record = found.record
    name = found.log.name
    return RecordProof(
        name.topic_id, name.partition, name.topic, found.leaf_index,
        ProvenRecord(
            record.offset, record.timestamp_type, record.timestamp_ms, record.key, record.value, record.headers
        ),
        [one.hex() for one in path], line.decode(),
    )  # fmt: skip


def prove_consistency(reader: TrailReader, earlier: int, later: int, keys: Keys) -> ConsistencyProof:
    """A proof that one checkpoint follows from another, by their numbers; it is checked before it is given.

    Raises:
        ConfigurationError: there is no such checkpoint, or the trail is not what was signed.
    """
    lines = []
    for number in (earlier, later):
        line = reader.checkpoint(number)
        if line is None:
            raise ConfigurationError(f"the database has no checkpoint {number}")
        lines.append(line)
    first, second = (trusted(line, keys) for line in lines)
    logs = {row.name: row for row in reader.logs()}
    trees = []
    for head in first.trees:
        after = second.head(head.name)
        row = logs.get(head.name)
        if head.size and after is not None and row is not None and after.size >= head.size:
            path = consistency_path(TreeReader(LogHashes(reader, row)), head.size, after.size)
            trees.append(TreeConsistency(head.topic_id, head.partition, [one.hex() for one in path]))
    proof = ConsistencyProof(lines[0].decode(), lines[1].decode(), trees)
    try:
        check_consistency_proof(proof, keys)
    except BadRecord as error:
        raise ConfigurationError(f"{error}: `ultrathink forensics verify` tells what was changed") from error
    return proof


def to_file(proof: RecordProof | ConsistencyProof) -> bytes:
    """As it is handed out: JSON."""
    return msgspec.json.format(encode(proof), indent=1) + b"\n"


def check(content: bytes, keys: Keys) -> Checked:
    """Check a proof's file with nothing but public keys.

    Raises:
        BadRecord: it is no proof, or it does not hold; says why.
    """
    proof = _proofs.read(content)
    if isinstance(proof, RecordProof):
        return check_record_proof(proof, keys)
    return check_consistency_proof(proof, keys)


def check_record_proof(proof: RecordProof, keys: Keys) -> Checked:
    """Raises BadRecord where it does not hold."""
    checkpoint = read(proof.checkpoint.encode(), keys)
    name = LogName(proof.topic_id, proof.partition, proof.topic)
    head = checkpoint.head(name)
    if head is None or head.topic != proof.topic:
        raise BadRecord(f"checkpoint {checkpoint.number} does not know {name}")
    told = proof.record
    record = Record(told.offset, told.timestamp_type, told.timestamp_ms, told.key, told.value, told.headers)
    path = hashes(proof.path)
    if not check_inclusion(leaf_of(record), proof.leaf_index, head.size, path, bytes.fromhex(head.root)):
        raise BadRecord(f"the record is not the one that checkpoint {checkpoint.number} signed")
    what = f"record {proof.leaf_index} of {name} (offset {told.offset}) is one of the {head.size} that were signed"
    return Checked(what, checkpoint.signed_at_ns, checkpoint.number, len(path), told)


def check_consistency_proof(proof: ConsistencyProof, keys: Keys) -> Checked:
    """Raises BadRecord where it does not hold."""
    earlier, later = read(proof.earlier.encode(), keys), read(proof.later.encode(), keys)
    if earlier.number > later.number:
        raise BadRecord(f"checkpoint {later.number} is not later than {earlier.number}")
    paths = {(tree.topic_id, tree.partition): hashes(tree.path) for tree in proof.trees}
    for head in earlier.trees:
        if head.size:
            check_tree(head, later, paths.get((head.topic_id, head.partition), []))
    count = sum(map(len, paths.values()))
    what = f"the trees of checkpoint {earlier.number} are the beginnings of those of checkpoint {later.number}"
    return Checked(what, later.signed_at_ns, later.number, count)


def check_tree(head: TreeHead, later: Checkpoint, path: Sequence[bytes]) -> None:
    """One tree of a consistency proof. Raises BadRecord."""
    after = later.head(head.name)
    if after is None:
        raise BadRecord(f"checkpoint {later.number} does not know {head.name}")
    roots = bytes.fromhex(head.root), bytes.fromhex(after.root)
    if not check_consistency(head.size, roots[0], after.size, roots[1], path):
        raise BadRecord(f"{head.name} of checkpoint {later.number} does not begin with what was signed before")


def hashes(path: Sequence[str]) -> list[bytes]:
    """From hex. Raises BadRecord."""
    try:
        found = [bytes.fromhex(one) for one in path]
    except ValueError:
        raise BadRecord("a hash of the proof is not in hex") from None
    if any(len(one) != HASH_BYTES for one in found):
        raise BadRecord(f"a hash of the proof has not {HASH_BYTES} bytes")
    return found


def trusted(line: bytes, keys: Keys) -> Checkpoint:
    """The database's copy of a checkpoint. Raises ConfigurationError where it is none."""
    try:
        return read(line, keys)
    except BadRecord as error:
        raise ConfigurationError(f"the database's checkpoint cannot be trusted: {error}") from error
