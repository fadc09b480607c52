"""Feature rows as the gateway would send them: from the kernel, never zeros."""

from __future__ import annotations

from itertools import islice

import numpy as np

from loadtest.errors import InvalidRun
from trading.arrays import Float32Array
from trading.features.engine import FeatureEngine
from trading.history import open_source
from trading.market import TickBatch

ROWS = 1024
#: Ticks that only warm the kernel's windows.
WARMING = 2048
DEFAULT_SOURCE = "simulate:regimes?ticks=8000&symbols=4"


def feature_rows(source: str = DEFAULT_SOURCE) -> Float32Array:
    """float32 [n, 32] of a SOURCE, n up to 1,024, after the kernel's windows have filled.

    Raises:
        SourceError: the SOURCE cannot be read.
        InvalidRun: it has no rows that are warm, or only one and the same.
    """
    ticks = [record.tick for record in islice(open_source(source).records(), WARMING + 4 * ROWS)]
    update = FeatureEngine().update(TickBatch.from_ticks(ticks))
    rows = np.ascontiguousarray(update.values[update.warm][-ROWS:])
    if len(rows) < 2 or (rows == rows[0]).all():
        raise InvalidRun(f"{source} has {len(rows)} different warm feature rows: give a longer SOURCE")
    return rows
