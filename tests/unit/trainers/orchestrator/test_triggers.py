"""Whether something that happened begins a run."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from trading.errors import ConfigurationError
from trainers.orchestrator.cycle import Verdict
from trainers.orchestrator.triggers import Begun, TriggerPolicy, rule

NOW = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)


def ago(hours, trigger="drift", verdict=Verdict.SUCCEEDED):
    return Begun(trigger, NOW - timedelta(hours=hours), verdict)


def test_the_first_begins():
    assert rule(TriggerPolicy(), "drift", NOW, []).begins


def test_a_cool_down_is_its_own_triggers():
    policy = TriggerPolicy(cool_down="2h")
    found = rule(policy, "drift", NOW, [ago(1)])
    assert found.why_not == "drift began a run at 2026-11-30 11:00 UTC, and cools down for 2h"
    assert found.again_at == NOW + timedelta(hours=1)
    assert rule(policy, "data", NOW, [ago(1)]).begins
    assert rule(policy, "drift", NOW, [ago(2)]).begins


def test_a_trigger_whose_runs_come_to_nothing_cools_down_longer_each_time():
    policy = TriggerPolicy(cool_down="1h", most_false=10)
    wrong = [ago(10, verdict=Verdict.FAILED), ago(7, verdict=Verdict.REJECTED)]
    found = rule(policy, "drift", NOW - timedelta(hours=4), wrong)
    assert "cools down for 4h, longer since its last runs came to nothing" in found.why_not
    assert rule(policy, "drift", NOW - timedelta(hours=3), wrong).begins
    # One that came to something begins anew.
    assert rule(policy, "drift", NOW, [*wrong, ago(1.5)]).begins


def test_false_runs_are_bounded_within_a_week():
    policy = TriggerPolicy(cool_down="1ms", most_cool_down="1ms", most_false=3, most_a_day=10_000)
    begun, now = [], NOW
    for _ in range(7 * 24 * 4):
        if rule(policy, "drift", now, begun).begins:
            begun.append(Begun("drift", now, Verdict.REJECTED))
        now += timedelta(minutes=15)
    assert len(begun) == 3
    found = rule(policy, "drift", now, begun)
    assert found.begins  # a week after the first of them


def test_by_hand_and_rolling_back_are_always_begun():
    policy = TriggerPolicy(quiet=("00:00-23:59",), most_a_day=0)
    for kind in ("hand", "rollback"):
        assert rule(policy, kind, NOW, [ago(0.1, kind)] * 20).begins
    for kind in ("drift", "decay", "data", "schedule"):
        assert not rule(policy, kind, NOW, []).begins


def test_quiet_hours_are_those_of_their_time_zone_and_go_over_midnight():
    policy = TriggerPolicy(quiet=("22:00-06:00",), tz="America/New_York")
    for hour, quiet in ((2, False), (3, True), (10, True), (11, False)):  # New York is 5 hours behind
        now = datetime(2026, 11, 30, hour, 0, tzinfo=UTC)
        found = rule(policy, "drift", now, [])
        assert found.begins is not quiet
        if quiet:
            assert found.again_at == datetime(2026, 11, 30, 11, 0, tzinfo=UTC)


def test_runs_a_day_are_counted_by_the_days_of_the_time_zone():
    policy = TriggerPolicy(most_a_day=2, cool_down="1ms", tz="Asia/Tokyo")
    today = [ago(1, "data"), ago(2, "schedule")]
    found = rule(policy, "drift", NOW, today)
    assert found.why_not == "2 runs began today by themselves, which is the most"
    assert found.again_at == datetime(2026, 11, 30, 15, 0, tzinfo=UTC)
    assert rule(policy, "drift", found.again_at, today).begins
    assert rule(policy, "drift", NOW, [ago(1, "hand"), ago(2, "hand")]).begins


@pytest.mark.parametrize("quiet", ["22-06", "22:00", "25:00-06:00", "a:b-c:d", "22:00-06:00-08:00", "²2:00-06:00"])
def test_what_are_no_quiet_hours_is_refused(quiet):
    with pytest.raises(ConfigurationError, match="is no span of a day"):
        TriggerPolicy(quiet=(quiet,)).check()
