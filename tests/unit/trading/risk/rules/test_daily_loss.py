"""`daily_loss`: what it denies, clips and lets pass."""

from __future__ import annotations

import datetime as dt

import pytest
from msgspec import structs

from tests.rules import ACCEPT, traded
from trading.risk.calendar import Session
from trading.risk.limits import LimitSet


def test_the_trading_day_begins_where_the_account_is():
    made = traded(session=Session(timezone="Asia/Tokyo", rolls="06:00"), max_daily_loss=100.0, capital=1_000.0)
    made.hold(10.0)
    made.tick(80.0)
    assert made.judge(1.0).broken == ("daily_loss",)
    made.tick(80.0, after_s=9 * 3600 - 1)  # 21:00 in London is 06:00 in Tokyo
    assert made.judge(1.0).broken == ("daily_loss",)
    made.tick(80.0, after_s=1.0)
    assert made.judge(1.0).outcome is ACCEPT


CHANGES = [
    # Spring and autumn, where a day's end is repeated, left out, or moved by half an hour.
    ("Europe/Berlin", dt.datetime(2024, 3, 30, 12), "02:30"),
    ("Europe/Berlin", dt.datetime(2024, 10, 26, 12), "02:30"),
    ("America/New_York", dt.datetime(2024, 3, 9, 12), "02:00"),
    ("America/New_York", dt.datetime(2024, 11, 2, 12), "01:30"),
    ("Australia/Lord_Howe", dt.datetime(2024, 4, 6, 12), "01:45"),
    ("Australia/Lord_Howe", dt.datetime(2024, 10, 5, 12), "02:00"),
    ("America/Santiago", dt.datetime(2024, 4, 6, 12), "00:00"),
    ("America/Santiago", dt.datetime(2024, 9, 7, 12), "00:00"),
    ("Africa/Casablanca", dt.datetime(2024, 3, 9, 12), "02:30"),
]


@pytest.mark.parametrize(("zone", "begin", "rolls"), CHANGES)
def test_at_a_change_of_clocks_days_only_move_forward(zone, begin, rolls):
    book = traded(session=Session(timezone=zone, rolls=rolls)).book
    at, days = int(begin.replace(tzinfo=dt.UTC).timestamp()), []
    for quarter in range(2 * 96):
        book.observe("A", (at + quarter * 900) * 10**9, 100.0)
        days.append(int(book.tables.account[0].day))
    assert days == sorted(days)
    assert days[-1] - days[0] == 2


def test_a_latch_outlives_the_repeated_hour():
    # 03:00 becomes 02:00 in Berlin: a day that rolls at 02:30 has rolled before, and must not roll again.
    made = traded(session=Session(timezone="Europe/Berlin", rolls="02:30"), max_daily_loss=100.0, capital=1_000.0)
    midnight = int(dt.datetime(2024, 10, 27, 0, 35, tzinfo=dt.UTC).timestamp()) * 10**9
    made.tick(100.0, after_s=(midnight - made.book.now_ns) / 1e9)
    made.hold(10.0)
    made.tick(80.0)
    assert made.judge(1.0).broken == ("daily_loss",)
    for _ in range(8):
        made.tick(80.0, after_s=900.0)
        assert made.judge(1.0).broken == ("daily_loss",)


def test_another_session_does_not_bring_a_day_again():
    made = traded(session=Session(rolls="00:00"), max_daily_loss=100.0, capital=1_000.0)
    made.hold(10.0)
    made.tick(80.0)
    file = made.book.limits.file
    made.book.set_limits(
        LimitSet(structs.replace(file, session=Session(timezone="Pacific/Honolulu", rolls="23:59")))
    )
    made.tick(80.0, after_s=1.0)
    assert made.judge(1.0).broken == ("daily_loss",)
