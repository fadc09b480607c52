"""What a reader of decisions counts."""

from __future__ import annotations

import pytest

from loadtest.open_loop.watcher import completeness, latency


def test_missing_and_repeated_decisions_are_counted():
    sent = {(0, 1): 1000, (0, 2): 1000, (1, 1): 1000}
    seen = [b'{"decision_id":"market.ticks-0-1"}'] * 2 + [
        b'{"decision_id":"market.ticks-1-1"}',
        b'{"decision_id":"market.ticks-9-9"}',
    ]
    found = completeness(sent, seen)
    assert (found.ticks, found.decisions, found.missing, found.repeated) == (3, 3, 1, 1)
    measured, histogram = latency(sent, seen, [2_001_000, 9_001_000, 5_001_000, 1])
    assert histogram.get_total_count() == 2
    assert measured.max == pytest.approx(5.0, rel=0.01)
