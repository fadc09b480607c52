"""`stale_data`: what it denies, clips and lets pass."""

from __future__ import annotations

import pytest

from tests.rules import ACCEPT, traded
from tests.traded_book import SECOND, TradedBook


def test_stale_data():
    made = traded(max_staleness_s=2.0)
    assert made.judge(1.0, age_ns=2 * SECOND).outcome is ACCEPT
    assert made.judge(1.0, age_ns=2 * SECOND + 1000).broken == ("stale_data",)
    assert made.judge(1.0, age_ns=-1).broken == ("stale_data",)


def test_a_naive_staleness_check_never_fires_when_the_receive_clock_is_behind():
    made = TradedBook(max_staleness_s=1.0)
    behind = int(1.27 * SECOND)  # as in the Binance captures
    for k in range(5):
        event = made.now_ns + k * SECOND
        age = made.book.observe("A", event, 100.0, event - behind + k % 2 * 1_000_000)
        assert age <= 1_000_000
    late = made.now_ns + 5 * SECOND
    age = made.book.observe(
        "A", late, 100.0, late - behind + int(1.1 * SECOND)
    )  # it took 1.1 s: sent - event is -0.17 s
    assert age / SECOND == pytest.approx(1.1, abs=0.01)
    made.marks["A"] = 100.0
    assert made.judge(1.0, age_ns=age).broken == ("stale_data",)


def test_the_clocks_offset_follows_drift_and_no_delay():
    book = TradedBook().book
    start = 1_704_110_400 * SECOND
    ages = [book.observe("A", start + k * SECOND, 1.0, start + k * SECOND + 50_000 * k) for k in range(600)]
    assert max(ages) == 0  # 50 parts in a million: a clock that drifts
    later = start + 600 * SECOND
    delayed = [book.observe("A", later + k * SECOND, 1.0, later + k * SECOND + 3 * SECOND) for k in range(60)]
    assert min(delayed) > 2.9 * SECOND
