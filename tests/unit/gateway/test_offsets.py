"""The watermark never passes a tick that is still in flight."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.offsets import OffsetTracker


def test_a_gap_in_what_is_done_holds_the_watermark():
    tracker = OffsetTracker()
    tracker.reading([0, 0, 0], [5, 6, 7])
    tracker.done(0, 7)
    tracker.done(0, 6)
    assert tracker.committable() == {}
    tracker.done(0, 5)
    assert tracker.committable() == {0: 8}
    assert tracker.committable() == {}


def test_offsets_that_the_log_skips_do_not_hold_it():
    tracker = OffsetTracker()
    tracker.reading([0, 0], [5, 90])
    tracker.done(0, 5)
    tracker.done(0, 90)
    assert tracker.committable() == {0: 91}


def test_a_partition_given_away_is_forgotten():
    tracker = OffsetTracker()
    tracker.reading([0, 1], [0, 0])
    tracker.forget(0)
    tracker.done(0, 0)
    tracker.done(1, 0)
    assert tracker.committable() == {1: 1}
    assert tracker.unfinished() == 0


@given(st.permutations(range(12)), st.integers(0, 12))
def test_the_watermark_is_the_first_offset_not_done(order, count):
    tracker = OffsetTracker()
    tracker.reading([3] * 12, list(range(12)))
    done = set(order[:count])
    for offset in order[:count]:
        tracker.done(3, offset)
    first_open = next((k for k in range(12) if k not in done), 12)
    assert tracker.committable() == ({3: first_open} if first_open else {})
    assert tracker.unfinished() == 12 - first_open
