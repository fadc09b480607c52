"""A growing tree of which no more is kept than its root needs: the peaks, the largest complete subtrees."""

from __future__ import annotations

from hashlib import sha256

from msgspec import Struct

from services.forensics.merkle.hashing import EMPTY_ROOT, HASH_BYTES, hash_children

#: Complete subtrees of 256 leaves, of 256 such, and so on are tiles: their hashes are kept, for proofs.
TILE_LEVELS = 8
TILE_LEAVES = 1 << TILE_LEVELS


class Tile(Struct, frozen=True):
    """A complete subtree of 2**level leaves, the `index`-th of its level; `level` is a multiple of 8."""

    level: int
    index: int
    hash: bytes


class GrowingTree:
    """Append leaves; ask for the root.

    Attributes:
        size: how many leaves it has.
        peaks: hashes of its complete subtrees, the largest first.
    """

    __slots__ = ("peaks", "size")

    def __init__(self, size: int = 0, peaks: list[bytes] | None = None) -> None:
        """A tree that has so many leaves already. Raises ValueError where the peaks are not as many as it has."""
        self.size, self.peaks = size, list(peaks or [])
        if len(self.peaks) != size.bit_count():
            raise ValueError(f"a tree of {size} leaves has {size.bit_count()} peaks, not {len(self.peaks)}")

    def append(self, leaf: bytes) -> list[Tile]:
        """Add a leaf's hash; the tiles that it completes."""
        peaks, rest, level, completed = self.peaks, self.size, 0, []
        node = leaf
        while rest & 1:
            node = sha256(b"\x01" + peaks.pop() + node).digest()
            rest >>= 1
            level += 1
            if not level % TILE_LEVELS:
                completed.append(Tile(level, rest, node))
        peaks.append(node)
        self.size += 1
        return completed

    def root(self) -> bytes:
        """Of all leaves so far."""
        return fold(self.peaks)

    def copy(self) -> GrowingTree:
        """Another that grows by itself."""
        return GrowingTree(self.size, self.peaks)


def fold(peaks: list[bytes]) -> bytes:
    """The root above peaks, which are in order from the left."""
    if not peaks:
        return EMPTY_ROOT
    root = peaks[-1]
    for peak in reversed(peaks[:-1]):
        root = hash_children(peak, root)
    return root


def to_bytes(peaks: list[bytes]) -> bytes:
    """Peaks as they are stored."""
    return b"".join(peaks)


def from_bytes(content: bytes) -> list[bytes]:
    """Stored peaks. Raises ValueError for what is not a whole number of hashes."""
    if len(content) % HASH_BYTES:
        raise ValueError(f"{len(content)} bytes are no peaks")
    return [content[k : k + HASH_BYTES] for k in range(0, len(content), HASH_BYTES)]
