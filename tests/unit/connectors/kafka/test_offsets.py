"""The watermark never passes a tick that is still in flight."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from connectors.kafka.offsets import OffsetTracker


def test_a_gap_in_what_is_done_holds_the_watermark():
    tracker = OffsetTracker()
    tracker.begin(0, 5)
    first, second = tracker.sent(0, 7, 2), tracker.sent(0, 8, 1)
    tracker.done(second)
    tracker.done(first)
    assert tracker.committable() == {}
    tracker.done(first)
    assert tracker.committable() == {0: 8}
    assert tracker.committable() == {}
    assert tracker.safe(0) == 8


def test_a_batch_that_left_nothing_to_confirm_is_safe_at_once():
    tracker = OffsetTracker()
    tracker.begin(0, 0)
    tracker.sent(0, 4, 0)
    assert tracker.safe(0) == 4


def test_a_partition_given_away_is_forgotten():
    tracker = OffsetTracker()
    for partition in (0, 1):
        tracker.begin(partition, 0)
    gone, kept = tracker.sent(0, 1, 1), tracker.sent(1, 1, 1)
    tracker.forget(0)
    tracker.done(gone)
    tracker.done(kept)
    assert tracker.committable() == {1: 1}
    assert tracker.safe(0) == 0


@given(st.permutations(range(12)), st.integers(0, 12))
def test_the_watermark_is_the_first_offset_not_done(order, count):
    tracker = OffsetTracker()
    tracker.begin(3, 0)
    tickets = [tracker.sent(3, k + 1, 1) for k in range(12)]
    done = set(order[:count])
    for k in order[:count]:
        tracker.done(tickets[k])
    first_open = next((k for k in range(12) if k not in done), 12)
    assert tracker.safe(3) == first_open
