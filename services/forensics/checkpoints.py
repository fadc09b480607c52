"""Checkpoints: the sizes and roots of all trees at one moment, signed with Ed25519, each bound to the one before.

A line is JSON, `{"checkpoint":{...},"key":"...","signature":"..."}`: the checkpoint's bytes are what is signed.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import Struct

from services.forensics.ports import LogName
from trading.encoding import Count, Records, encode
from trading.keys import Keys, check_signature, key_id, signature_of

#: What is signed begins with this, so that no signature of ours for something else fits.
CONTEXT = b"ultrathink-trail-checkpoint/1\n"
#: Of the one before the first.
NONE_BEFORE = ""


class TreeHead(Struct, frozen=True):
    """A tree's size and root (SHA-256, in hex)."""

    topic_id: str
    partition: Count
    topic: str
    size: Count
    root: str

    @property
    def name(self) -> LogName:
        """Of the log."""
        return LogName(self.topic_id, self.partition, self.topic)


class Checkpoint(Struct, frozen=True):
    """What is signed.

    Attributes:
        number: from 0, without gaps.
        signed_at_ns: wall time, ns since 1970.
        previous: SHA-256 of the line before, in hex; empty for the first.
        trees: sorted by topic id and partition.
    """

    number: Count
    signed_at_ns: Count
    previous: str
    trees: tuple[TreeHead, ...]

    @property
    def sizes(self) -> dict[LogName, int]:
        """Of every tree."""
        return {head.name: head.size for head in self.trees}

    def head(self, name: LogName) -> TreeHead | None:
        """Of one tree; None where the checkpoint does not know it."""
        return next((h for h in self.trees if (h.topic_id, h.partition) == (name.topic_id, name.partition)), None)


class _Line(Struct, frozen=True):
    checkpoint: msgspec.Raw
    key: str
    signature: str


_lines, _checkpoints = Records(_Line), Records(Checkpoint)


def digest(line: bytes) -> str:
    """What the next checkpoint calls this one by."""
    return sha256(line).hexdigest()


def make(number: int, signed_at_ns: int, previous: str, trees: Iterable[TreeHead]) -> Checkpoint:
    """With its trees in order."""
    return Checkpoint(number, signed_at_ns, previous, tuple(sorted(trees, key=lambda h: (h.topic_id, h.partition))))


def sign(checkpoint: Checkpoint, key: Ed25519PrivateKey) -> bytes:
    """The line, without its end."""
    content = encode(checkpoint)
    return encode(_Line(msgspec.Raw(content), key_id(key.public_key()), signature_of(CONTEXT + content, key)))


def read(line: bytes, keys: Keys) -> Checkpoint:
    """A checkpoint that one of the keys has signed.

    Raises:
        BadRecord: it is none, or nobody whom we trust has signed it.
    """
    found = _lines.read(line)
    content = bytes(found.checkpoint)
    check_signature("a checkpoint", CONTEXT + content, found.key, found.signature, keys)
    return _checkpoints.read(content)
