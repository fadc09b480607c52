"""Trees against the known answers of certificate transparency, a plain reference, and every proof of every size."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.forensics.merkle.hashing import EMPTY_ROOT, hash_children, hash_leaf, split_at
from services.forensics.merkle.proofs import (
    TreeReader,
    check_consistency,
    check_inclusion,
    consistency_path,
    inclusion_path,
)
from services.forensics.merkle.tree import GrowingTree, fold, from_bytes, to_bytes

#: The leaves and roots that implementations of RFC 6962 share.
LEAVES = [
    bytes.fromhex(h)
    for h in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]  # fmt: skip


def reference(leaves):
    """MTH of RFC 6962, as it is written there."""
    if not leaves:
        return EMPTY_ROOT
    if len(leaves) == 1:
        return leaves[0]
    k = split_at(len(leaves))
    return hash_children(reference(leaves[:k]), reference(leaves[k:]))


class StoredHashes:
    """Leaves and tiles as a database keeps them: tiles of complete subtrees alone."""

    def __init__(self, leaves):
        self.leaves, self.tiles, tree = leaves, {}, GrowingTree()
        for leaf in leaves:
            for tile in tree.append(leaf):
                self.tiles[tile.level, tile.index] = tile.hash

    def read(self, level, begin, end):
        if level == 0:
            assert end <= len(self.leaves)
            return self.leaves[begin:end]
        return [self.tiles[level, index] for index in range(begin, end)]


def leaves_of(count):
    return [hash_leaf(b"%d" % n) for n in range(count)]


@pytest.mark.parametrize("count", range(1, 9))
def test_roots_are_those_that_everybody_has(count):
    tree = GrowingTree()
    for content in LEAVES[:count]:
        tree.append(hash_leaf(content))
    assert tree.root().hex() == ROOTS[count - 1]


def test_a_tree_without_leaves_has_the_root_of_nothing():
    assert GrowingTree().root() == EMPTY_ROOT == fold([])
    assert EMPTY_ROOT.hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@given(st.integers(0, 600), st.integers(0, 600))
def test_a_tree_goes_on_from_its_peaks(first, more):
    leaves = leaves_of(first + more)
    tree = GrowingTree()
    for leaf in leaves[:first]:
        tree.append(leaf)
    again = GrowingTree(first, from_bytes(to_bytes(tree.peaks)))
    for leaf in leaves[first:]:
        again.append(leaf)
    assert again.root() == reference(leaves)
    assert tree.root() == reference(leaves[:first])


def test_peaks_that_do_not_fit_a_size_are_refused():
    for size, peaks in ((3, [b"x" * 32]), (0, [b"x" * 32]), (8, [])):
        with pytest.raises(ValueError, match="peaks"):
            GrowingTree(size, peaks)
    with pytest.raises(ValueError, match="33 bytes"):
        from_bytes(b"x" * 33)


def test_a_tile_is_a_complete_subtree_and_is_told_once():
    leaves, tree, tiles = leaves_of(66_000), GrowingTree(), {}
    for leaf in leaves:
        for tile in tree.append(leaf):
            assert (tile.level, tile.index) not in tiles
            tiles[tile.level, tile.index] = tile.hash
    assert sorted({level for level, _ in tiles}) == [8, 16]
    assert [index for level, index in tiles if level == 8] == list(range(257))
    assert tiles[8, 3] == reference(leaves[768:1024])
    assert tiles[16, 0] == reference(leaves[:65_536])


@pytest.mark.parametrize("size", [*range(1, 40), 255, 256, 257, 511, 513, 700])
def test_every_leaf_is_proven_and_no_other_passes(size):
    leaves = leaves_of(size)
    tree, root = TreeReader(StoredHashes(leaves)), reference(leaves)
    for index in range(size) if size < 40 else (0, 1, 255, size // 2, size - 1):
        if index >= size:
            continue
        path = inclusion_path(tree, index, size)
        assert len(path) <= (size - 1).bit_length()
        assert check_inclusion(leaves[index], index, size, path, root)
        assert not check_inclusion(hash_leaf(b"other"), index, size, path, root)
        assert not check_inclusion(leaves[index], index, size, path, hash_leaf(b"root"))
        assert not check_inclusion(leaves[index], index, size, [*path, root], root)
        for wrong in ({index - 1, index + 1, size} - {index}) & set(range(-1, size + 1)):
            assert not check_inclusion(leaves[index], wrong, size, path, root)
        for k in range(len(path)):
            assert not check_inclusion(leaves[index], index, size, path[:k] + path[k + 1 :], root)
            assert not check_inclusion(
                leaves[index], index, size, [*path[:k], hash_leaf(path[k]), *path[k + 1 :]], root
            )


@pytest.mark.parametrize("larger", [*range(1, 34), 256, 300, 520])
def test_every_beginning_is_proven_and_no_other_passes(larger):
    leaves = leaves_of(larger)
    tree, root = TreeReader(StoredHashes(leaves)), reference(leaves)
    sizes = range(1, larger + 1) if larger < 40 else (1, 2, 128, 255, 256, larger - 1, larger)
    for size in (s for s in sizes if s <= larger):
        before = reference(leaves[:size])
        path = consistency_path(tree, size, larger)
        assert check_consistency(size, before, larger, root, path)
        other = reference([*leaves[: size - 1], hash_leaf(b"other")])
        assert not check_consistency(size, other, larger, root, path)
        assert not check_consistency(size, before, larger, other, path)
        assert not check_consistency(size, before, larger, root, [*path, root])
        for k in range(len(path)):
            assert not check_consistency(size, before, larger, root, path[:k] + path[k + 1 :])
    assert not check_consistency(0, EMPTY_ROOT, larger, root, [])
    assert not check_consistency(larger + 1, root, larger, root, [])


def test_a_hundred_million_records_are_proven_by_27_hashes():
    class Made:
        """Any hash for any place: what counts is how many are asked for."""

        def read(self, level, begin, end):
            assert end - begin <= 256
            return [hash_leaf(b"%d %d" % (level, index)) for index in range(begin, end)]

    tree, random_ = TreeReader(Made()), random.Random(1)
    for _ in range(50):
        assert len(inclusion_path(tree, random_.randrange(10**8), 10**8)) <= 27


def test_what_is_not_there_is_not_proven():
    tree = TreeReader(StoredHashes(leaves_of(4)))
    with pytest.raises(ValueError, match="no leaf 4"):
        inclusion_path(tree, 4, 4)
    for sizes in ((0, 4), (5, 4)):
        with pytest.raises(ValueError, match="no tree"):
            consistency_path(tree, *sizes)
