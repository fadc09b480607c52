"""Few ticks never wait, many gather, and a backlog is worked off without a pause."""

from __future__ import annotations

import pytest

from gateway.pace import FULL_RATE, OVERLAPPING_ROWS, Pace
from gateway.settings import GatewaySettings

MS = 1_000_000
INTERVAL_S = 0.012


def steady(rows, every_ms, seconds=3.0, max_batch=1024):
    """A pace after so many polls, and the time of the last."""
    pace, now_ns = Pace(INTERVAL_S, max_batch), 10**12
    for _ in range(int(seconds * 1000 / every_ms)):
        now_ns += int(every_ms * MS)
        pace.polled(rows, now_ns)
    return pace, now_ns


def test_a_feed_of_some_ticks_a_second_is_never_kept_waiting():
    pace, now_ns = steady(rows=1, every_ms=50)
    assert pace.wait_ns(now_ns) < 0.15 * MS


def test_the_interval_grows_with_the_rate_and_no_further_than_it_is_told():
    half, half_ns = steady(rows=int(FULL_RATE / 200), every_ms=10)
    assert half.wait_ns(half_ns) == pytest.approx(INTERVAL_S * 1e9 / 2, rel=0.01)
    twice, twice_ns = steady(rows=int(FULL_RATE / 50), every_ms=10)
    assert twice.wait_ns(twice_ns) == INTERVAL_S * 1e9
    assert twice.wait_ns(twice_ns + 5 * MS) == 7 * MS
    assert twice.wait_ns(twice_ns + 500 * MS) == 0


def test_most_of_a_burst_is_forgotten_within_a_second():
    pace, now_ns = steady(rows=100, every_ms=10)
    for _ in range(20):
        now_ns += 50 * MS
        pace.polled(0, now_ns)
    assert pace.wait_ns(now_ns) < 1.5 * MS


def test_after_a_full_batch_nothing_is_waited_for():
    pace, now_ns = steady(rows=8, every_ms=1, max_batch=8)
    assert pace.wait_ns(now_ns) == 0
    assert pace.overlaps


def test_only_large_batches_overlap():
    assert not steady(rows=OVERLAPPING_ROWS - 1, every_ms=10)[0].overlaps
    assert steady(rows=OVERLAPPING_ROWS, every_ms=10)[0].overlaps


def test_without_transactions_no_tick_waits():
    assert GatewaySettings(delivery="at-least-once").pipeline().gather_s == 0
    assert GatewaySettings().pipeline().gather_s > 0
    pace = Pace(0.0, 1024)
    pace.polled(500, 10**9)
    assert pace.wait_ns(10**9) == 0
