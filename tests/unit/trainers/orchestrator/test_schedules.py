"""When runs are due by the clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trading.errors import ConfigurationError
from trainers.orchestrator.schedules import Schedule, due

BERLIN = ZoneInfo("Europe/Berlin")


def at(text, zone=UTC):
    return datetime.fromisoformat(text).replace(tzinfo=zone).astimezone(UTC)


def slots(cron, tz, after, until):
    return list(Schedule(name="one", cron=cron, tz=tz).slots(after, until))


def test_a_fixed_time_in_the_hour_that_is_left_out_is_due_when_it_is_over():
    found = slots("30 2 * * *", "Europe/Berlin", at("2026-03-28T12:00"), at("2026-03-30T12:00"))
    # Clocks went from 2:00 to 3:00 on the 29th.
    assert found == [at("2026-03-29T03:00", BERLIN), at("2026-03-30T02:30", BERLIN)]


def test_a_fixed_time_in_the_hour_that_comes_twice_is_due_once():
    found = slots("30 2 * * *", "Europe/Berlin", at("2026-10-24T12:00"), at("2026-10-26T12:00"))
    assert found == [at("2026-10-25T02:30", BERLIN), at("2026-10-26T02:30", BERLIN)]
    # Asked from within the hour that comes again, it is not due again.
    again = slots("30 2 * * *", "Europe/Berlin", at("2026-10-25T01:10"), at("2026-10-25T12:00"))
    assert again == []


def test_every_quarter_of_an_hour_goes_by_time_that_has_passed():
    spring = slots("*/15 * * * *", "Europe/Berlin", at("2026-03-29T00:00"), at("2026-03-29T03:00"))
    autumn = slots("*/15 * * * *", "Europe/Berlin", at("2026-10-25T00:00"), at("2026-10-25T03:00"))
    for found in (spring, autumn):
        assert len(found) == 12
        assert {b - a for a, b in zip(found, found[1:], strict=False)} == {timedelta(minutes=15)}


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(["*/7 * * * *", "30 2 * * *", "0 */3 * * *", "15 1,2,3 * * *", "5 2 * * 0"]),
    st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"]),
    st.integers(0, 400 * 24 * 60),
    st.lists(st.integers(1, 3 * 24 * 60), min_size=1, max_size=6),
)
def test_however_often_somebody_looks_the_slots_are_the_same(cron, tz, begin, looks):
    start = at("2026-01-01T00:00") + timedelta(minutes=begin)
    found, now = [], start
    last = start
    for minutes in looks:
        now += timedelta(minutes=minutes)
        for slot in slots(cron, tz, last, now):
            found.append(slot)
            last = slot
    assert found == slots(cron, tz, start, now)
    assert found == sorted(set(found))


def test_what_was_missed_is_what_was_asked():
    now = at("2026-06-01T12:30")
    for missed, wanted in (("latest", [False] * 3 + [True]), ("none", [False] * 4), ("all", [True] * 4)):
        one = Schedule(name="one", cron="0 * * * *", missed=missed)
        found = due(one, at("2026-06-01T08:30"), now, timedelta(minutes=5))
        assert [not slot.skipped for slot in found] == wanted
        assert all("while nobody looked" in slot.skipped for slot in found if slot.skipped)


def test_a_slot_that_is_not_late_is_run_whatever_was_asked():
    for missed in ("latest", "none", "all"):
        one = Schedule(name="one", cron="0 * * * *", missed=missed)
        (found,) = due(one, at("2026-06-01T11:30"), at("2026-06-01T12:02"), timedelta(minutes=5))
        assert not found.skipped


@pytest.mark.parametrize(
    ("cron", "tz", "why"),
    [
        ("60 * * * *", "UTC", "bad minute"),
        ("* * * *", "UTC", "expected five fields"),
        ("* * * * * *", "UTC", "expected five fields"),
        ("0 0 30 2 *", "UTC", "bad day-of-month"),
        ("0 0 * * *", "Mars/Olympus", "is no time zone"),
        ("0 0 * * *", "../etc/passwd", "is no time zone"),
        ("0 0 * * *", "", "is no time zone"),
    ],
)
def test_what_is_no_schedule_is_refused_by_what_is_wrong(cron, tz, why):
    with pytest.raises(ConfigurationError, match=why):
        Schedule(name="one", cron=cron, tz=tz).check(at("2026-01-01T00:00"))
