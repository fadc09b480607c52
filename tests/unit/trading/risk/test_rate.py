"""Counting within a window, against a plain loop."""

from __future__ import annotations

import numpy as np
import pytest

from tests.traded_book import SECOND
from trading.risk.rate import within_window


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5, 63, 64, 65, 130])
def test_a_window_counts_as_a_plain_loop_would(count):
    times = [SECOND * (k // 2) for k in range(count)]
    ring = np.zeros(64, np.int64)
    for k, at in enumerate(times):
        ring[k % 64] = at
    now = times[-1] if times else 0
    for window in (0.5, 1.0, 1.5, 7.0, 1e6):
        wanted = min(64, sum(now - at < window * SECOND for at in times))
        assert within_window(ring, count, now, window) == wanted
