"""Proofs: that a leaf is in a tree, and that a tree is the beginning of a larger one (RFC 9162, 2.1.3 and 2.1.4).

What makes them asks a source of hashes; what checks them needs nothing but the proof.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from services.forensics.merkle.hashing import hash_children, split_at
from services.forensics.merkle.tree import TILE_LEVELS


class Hashes(Protocol):
    """Where a tree's hashes are."""

    def read(self, level: int, begin: int, end: int) -> list[bytes]:
        """Of the complete subtrees `begin` to before `end` of a level, a multiple of 8; level 0 are leaves."""


class TreeReader:
    """Hashes of any span of a tree's leaves; what was read is kept for the next question."""

    def __init__(self, hashes: Hashes) -> None:
        self._hashes = hashes
        self._known: dict[tuple[int, int], bytes] = {}

    def root(self, begin: int, end: int) -> bytes:
        """Of the leaves `begin` to before `end`, at least one: MTH of RFC 9162."""
        count = end - begin
        if not count & (count - 1) and not begin % count:
            return self._complete(count.bit_length() - 1, begin // count)
        middle = begin + split_at(count)
        return hash_children(self.root(begin, middle), self.root(middle, end))

    def _complete(self, level: int, index: int) -> bytes:
        known = self._known.get((level, index))
        if known is not None:
            return known
        below = level - level % TILE_LEVELS
        width = 1 << (level - below)
        nodes = self._hashes.read(below, index * width, (index + 1) * width)
        first = index * width
        while True:
            self._known.update({(below, first + k): node for k, node in enumerate(nodes)})
            if len(nodes) == 1:
                return nodes[0]
            nodes = [hash_children(nodes[k], nodes[k + 1]) for k in range(0, len(nodes), 2)]
            below, first = below + 1, first // 2


def inclusion_path(tree: TreeReader, index: int, size: int) -> list[bytes]:
    """The hashes beside a leaf's way to the root of a tree of `size` leaves, from below.

    Raises:
        ValueError: the tree has no such leaf.
    """
    if not 0 <= index < size:
        raise ValueError(f"a tree of {size} leaves has no leaf {index}")
    path, begin, end = [], 0, size
    while end - begin > 1:
        middle = begin + split_at(end - begin)
        if index < middle:
            path.append(tree.root(middle, end))
            end = middle
        else:
            path.append(tree.root(begin, middle))
            begin = middle
    return path[::-1]


def check_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> bool:
    """Whether a leaf's hash is at `index` of the tree of `size` leaves that has this root (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < size:
        return False
    node, place, last = leaf, index, size - 1
    for beside in path:
        if last == 0:
            return False
        if place & 1 or place == last:
            node = hash_children(beside, node)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            node = hash_children(node, beside)
        place, last = place >> 1, last >> 1
    return last == 0 and node == root


def consistency_path(tree: TreeReader, size: int, larger: int) -> list[bytes]:
    """What shows that the first `size` leaves of a tree of `larger` are the same as before (RFC 9162, 2.1.4.1).

    Raises:
        ValueError: the sizes are not in order, or the smaller is 0.
    """
    if not 0 < size <= larger:
        raise ValueError(f"no tree of {size} leaves begins one of {larger}")
    path: list[bytes] = []
    begin, end, whole = 0, larger, True
    while size < end:
        middle = begin + split_at(end - begin)
        if size <= middle:
            path.append(tree.root(middle, end))
            end = middle
        else:
            path.append(tree.root(begin, middle))
            begin, whole = middle, False
    if not whole:
        path.append(tree.root(begin, end))
    return path[::-1]


def check_consistency(size: int, root: bytes, larger: int, larger_root: bytes, path: Sequence[bytes]) -> bool:
    """Whether a tree of `size` leaves with a root is the beginning of a larger one (RFC 9162, 2.1.4.2)."""
    if not 0 < size <= larger:
        return False
    if size == larger:
        return root == larger_root and not path
    hashes = list(path)
    if not size & (size - 1):
        hashes.insert(0, root)
    if not hashes:
        return False
    place, last = size - 1, larger - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    old = new = hashes[0]
    for beside in hashes[1:]:
        if last == 0:
            return False
        if place & 1 or place == last:
            old, new = hash_children(beside, old), hash_children(beside, new)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            new = hash_children(new, beside)
        place, last = place >> 1, last >> 1
    return last == 0 and old == root and new == larger_root
