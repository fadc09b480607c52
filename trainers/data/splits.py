"""Splits whose training labels do not reach into their test rows (Lopez de Prado 2018, Advances in Financial
Machine Learning, chapters 7 and 12): purged of labels that overlap, with an embargo behind.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from math import comb

import numpy as np
from msgspec import Struct

from trading.arrays import BoolArray, Int64Array
from trading.errors import ConfigurationError

#: The first test segment begins here; the rest is cut into equal test segments.
FIRST_TEST = 0.55


class Split(Struct, frozen=True):
    """Row indices. No training label overlaps a test segment or its embargo.

    Attributes:
        train, test: int64, in order.
        test_start_ns: event time at which the first test row may lie.
        groups: which groups of a combinatorial split are tested; empty for a walk-forward one.
    """

    train: Int64Array
    test: Int64Array
    test_start_ns: int
    groups: tuple[int, ...] = ()


def walk_forward(
    time_ns: Int64Array, end_ns: Int64Array, folds: int, embargo_ns: int = 0, first_test: float = FIRST_TEST
) -> Iterator[Split]:
    """Yield expanding training sets, each followed by a later test segment.

    Args:
        time_ns: int64 [n], event time of each row.
        end_ns: int64 [n], when each row's label is known.
        folds: number of test segments.
        embargo_ns: extra distance between the last training label and the test segment.
        first_test: the share of rows before the first test segment.
    """
    edges = np.quantile(time_ns, np.linspace(first_test, 1.0, folds + 1), method="nearest")
    for k in range(folds):
        start, stop = int(edges[k]), int(edges[k + 1])
        last = k == folds - 1
        inside = (time_ns >= start) & ((time_ns <= stop) if last else (time_ns < stop))
        train = np.flatnonzero((end_ns < start - embargo_ns) & (time_ns < start))
        yield Split(train, np.flatnonzero(inside), start)


def combinatorial(
    time_ns: Int64Array, end_ns: Int64Array, groups: int, tested: int, embargo_ns: int = 0
) -> Iterator[Split]:
    """Yield every choice of `tested` among `groups` segments of time; the others train, purged on both sides.

    Args:
        time_ns, end_ns: int64 [n], see `walk_forward`.
        groups, tested: N and k: comb(N, k) splits, which make comb(N, k) k / N paths through all of the time.
        embargo_ns: after a test segment, rows that begin so soon are not trained on.

    Raises:
        ConfigurationError: the numbers fit no split.
    """
    if not 0 < tested < groups:
        raise ConfigurationError(f"{tested} of {groups} groups cannot be tested: expected 0 < tested < groups")
    edges = np.quantile(time_ns, np.linspace(0.0, 1.0, groups + 1), method="nearest").astype(np.int64)
    edges[-1] += 1
    which = np.clip(np.searchsorted(edges, time_ns, "right") - 1, 0, groups - 1)
    for chosen in combinations(range(groups), tested):
        train: BoolArray = ~np.isin(which, chosen)
        for group in chosen:
            begin, end = int(edges[group]), int(edges[group + 1])
            overlaps = (time_ns < end + embargo_ns) & (end_ns >= begin)
            train &= ~overlaps
        test = np.flatnonzero(np.isin(which, chosen))
        yield Split(np.flatnonzero(train), test, int(edges[chosen[0]]), chosen)


def paths(groups: int, tested: int) -> list[list[tuple[int, int]]]:
    """Which split and group make each path: a path takes every group once, from a split that tested it.

    Returns:
        comb(groups, tested) * tested / groups paths of (split, group), in the order of time.
    """
    splits = list(combinations(range(groups), tested))
    holders = [[k for k, chosen in enumerate(splits) if group in chosen] for group in range(groups)]
    count = comb(groups, tested) * tested // groups
    return [[(holders[group][path], group) for group in range(groups)] for path in range(count)]
