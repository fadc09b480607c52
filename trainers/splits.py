"""Walk-forward splits with purge and embargo (Lopez de Prado 2018, Advances in Financial ML, ch. 7)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from msgspec import Struct

from gateway.domain.schemas import Int64Array

#: The first test segment begins here; the rest is cut into equal test segments.
FIRST_TEST = 0.55


class Split(Struct, frozen=True):
    """Row indices. No training label reaches into, or ends shortly before, the test segment."""

    train: Int64Array
    test: Int64Array
    test_start_ns: int


def walk_forward(time_ns: Int64Array, end_ns: Int64Array, folds: int, embargo_ns: int = 0) -> Iterator[Split]:
    """Yield expanding training sets, each followed by a later test segment.

    Args:
        time_ns: int64 [n], event time of each row.
        end_ns: int64 [n], when each row's label is known.
        folds: number of test segments.
        embargo_ns: extra distance between the last training label and the test segment.
    """
    edges = np.quantile(time_ns, np.linspace(FIRST_TEST, 1.0, folds + 1), method="nearest")
    for k in range(folds):
        start, stop = int(edges[k]), int(edges[k + 1])
        last = k == folds - 1
        inside = (time_ns >= start) & ((time_ns <= stop) if last else (time_ns < stop))
        train = np.flatnonzero((end_ns < start - embargo_ns) & (time_ns < start))
        yield Split(train, np.flatnonzero(inside), start)
