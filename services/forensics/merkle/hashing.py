"""The two hashes of a tree: a leaf's and a node's begin with another byte, so that neither passes for the other."""

from __future__ import annotations

from hashlib import sha256

HASH_BYTES = 32
#: Of a tree without leaves.
EMPTY_ROOT = sha256(b"").digest()


def hash_leaf(content: bytes) -> bytes:
    """SHA-256 of 0x00 and the leaf's bytes."""
    return sha256(b"\x00" + content).digest()


def hash_children(left: bytes, right: bytes) -> bytes:
    """SHA-256 of 0x01 and the two hashes below."""
    return sha256(b"\x01" + left + right).digest()


def split_at(leaves: int) -> int:
    """How many of two leaves or more lie below a root's left child: the largest power of two below their number."""
    return 1 << ((leaves - 1).bit_length() - 1)
