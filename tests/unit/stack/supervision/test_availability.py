"""How much of an hour or a day a service was there, of the time in which it was meant to be."""

from __future__ import annotations

import itertools
import json
import random

import pytest

from stack.supervision.availability import DAY_S, HOUR_S, Availability

BEGAN_S = 1_000_000.0


def live(one, seconds, now_s, *, ready=True, held=(), step_s=1.0):
    for _ in range(int(seconds / step_s)):
        now_s += step_s
        one.note({"gateway": ready}, held, now_s, now_s - BEGAN_S)
    return now_s


def test_a_start_does_not_count_and_an_outage_does(tmp_path):
    one = Availability(tmp_path, BEGAN_S, 0.0)
    now_s = live(one, 20, BEGAN_S, ready=False)
    assert one.share("gateway", HOUR_S, now_s) is None
    now_s = live(one, 90, now_s)
    assert one.share("gateway", HOUR_S, now_s) == pytest.approx(1.0)
    now_s = live(one, 10, now_s, ready=False)
    assert one.share("gateway", HOUR_S, now_s) == pytest.approx(0.9, abs=0.02)


def test_only_the_window_counts(tmp_path):
    one = Availability(tmp_path, BEGAN_S, 0.0)
    now_s = live(one, 1000, BEGAN_S)
    now_s = live(one, 1000, now_s, ready=False)
    now_s = live(one, 3600, now_s)
    assert one.share("gateway", HOUR_S, now_s) == pytest.approx(1.0)
    assert one.share("gateway", DAY_S, now_s) == pytest.approx(4600 / 5600, abs=0.01)


def test_who_is_held_is_not_meant_to_be_there(tmp_path):
    one = Availability(tmp_path, BEGAN_S, 0.0)
    now_s = live(one, 100, BEGAN_S)
    now_s = live(one, 100, now_s, ready=False, held={"gateway"})
    assert one.share("gateway", HOUR_S, now_s) == pytest.approx(1.0)


@pytest.mark.parametrize(("on_purpose", "share"), [(False, 110 / 210), (True, 1.0)])
def test_after_a_kill_of_the_supervisor_the_gap_counts_and_after_a_stop_it_does_not(tmp_path, on_purpose, share):
    one = Availability(tmp_path, BEGAN_S, 0.0)
    now_s = live(one, 100, BEGAN_S)
    if on_purpose:
        one.end()
    one = Availability(tmp_path, now_s + 100, now_s + 100 - BEGAN_S)
    now_s = live(one, 10, now_s + 100)
    assert one.share("gateway", HOUR_S, now_s) == pytest.approx(share, abs=0.05)


def test_what_went_on_while_nobody_supervised_was_there(tmp_path):
    one = Availability(tmp_path, BEGAN_S, 0.0)
    now_s = live(one, 100, BEGAN_S)
    again = Availability(tmp_path, now_s + 100, now_s + 100 - BEGAN_S)
    again.went_on(["gateway", "unknown"], now_s + 100)
    now_s = live(again, 10, now_s + 100)
    assert again.share("gateway", HOUR_S, now_s) == pytest.approx(1.0, abs=0.01)


def test_a_machine_that_slept_was_not_there(tmp_path):
    one = Availability(tmp_path, BEGAN_S, 0.0)
    now_s = live(one, 100, BEGAN_S)
    one.note({"gateway": True}, (), now_s + 100, now_s + 100 - BEGAN_S)
    assert one.share("gateway", HOUR_S, now_s + 100) == pytest.approx(0.5, abs=0.01)


def test_what_is_kept_and_is_no_record_is_begun_anew(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "availability.json").write_text("rubbish")
    one = Availability(tmp_path, BEGAN_S, 0.0)
    now_s = live(one, 10, BEGAN_S)
    assert one.share("gateway", HOUR_S, now_s) == 1.0
    assert Availability(tmp_path, now_s, 0.0).share("gateway", HOUR_S, now_s) is not None


def test_a_service_that_comes_and_goes_all_day_does_not_grow_without_end(tmp_path):
    one = Availability(tmp_path, BEGAN_S, 0.0)
    now_s = BEGAN_S
    for k in range(5000):
        now_s += 5.0
        one.note({"gateway": k % 2 == 0}, (), now_s, now_s - BEGAN_S)
    assert (tmp_path / "run" / "availability.json").stat().st_size < 200_000


@pytest.mark.parametrize("leap_s", [3 * 3600.0, -3 * 3600.0, 40 * DAY_S])
def test_a_clock_that_jumps_is_no_outage(tmp_path, leap_s):
    one = Availability(tmp_path, BEGAN_S, 0.0)
    now_s, since_s = BEGAN_S, 0.0
    for k in range(200):
        now_s, since_s = now_s + 1.0 + (leap_s if k == 100 else 0.0), since_s + 1.0
        one.note({"gateway": True}, (), now_s, since_s)
    assert one.share("gateway", HOUR_S, now_s) == pytest.approx(1.0, abs=0.02)
    # And what is kept goes on being kept.
    for _ in range(20):
        now_s, since_s = now_s + 1.0, since_s + 1.0
        one.note({"gateway": False}, (), now_s, since_s)
    assert one.share("gateway", HOUR_S, now_s) == pytest.approx(199 / 219, abs=0.02)
    assert Availability(tmp_path, now_s, 0.0).share("gateway", HOUR_S, now_s) < 1.0


def test_who_left_the_profile_is_meant_to_be_there_no_more(tmp_path):
    one = Availability(tmp_path, BEGAN_S, 0.0)
    now_s = live(one, 100, BEGAN_S)
    one.note({"redis": True}, (), now_s + 6, now_s + 6 - BEGAN_S)
    again = Availability(tmp_path, now_s + 500, 0.0)
    assert again.share("gateway", HOUR_S, now_s + 500) == pytest.approx(1.0, abs=0.01)


def test_what_a_clock_that_ran_ahead_has_noted_hides_no_outage(tmp_path):
    one = Availability(tmp_path, BEGAN_S, 0.0)
    now_s = live(one, 1000, BEGAN_S)
    # The clock is set back by more than that, and another supervisor begins.
    again = Availability(tmp_path, now_s - 500, 2000.0)
    assert again.share("gateway", HOUR_S, now_s - 500) == pytest.approx(1.0)
    booted_s, now_s = 2000.0, now_s - 500
    for _ in range(100):
        booted_s, now_s = booted_s + 5, now_s + 5
        again.note({"gateway": False}, (), now_s, booted_s)
    assert again.share("gateway", HOUR_S, now_s) == pytest.approx(0.5, abs=0.01)


def test_spans_that_are_none_are_left_out(tmp_path):
    (tmp_path / "run").mkdir()
    odd = {"wanted": [[5.0, 1.0], [3.0, 101.0]], "ready": [[3.0, 53.0], [40.0, 101.0]], "counts": True}
    (tmp_path / "run" / "availability.json").write_text(json.dumps({"services": {"gateway": odd}}))
    one = Availability(tmp_path, 101.0, 1000.0)
    assert one.share("gateway", HOUR_S, 101.0) == pytest.approx(1.0)


def kept(folder):
    services = json.loads((folder / "run" / "availability.json").read_text())["services"]
    return {name: (len(one["wanted"]), len(one["ready"])) for name, one in services.items()}


def test_what_is_ready_all_the_time_is_one_span_however_the_clocks_round(tmp_path):
    one, now_s, booted_s = (
        Availability(tmp_path, 1_795_909_287.2375994, 56_221.87),
        1_795_909_287.2375994,
        56_221.87,
    )
    generator = random.Random(5)
    for _ in range(5000):
        step_s = generator.uniform(0.2, 0.3)
        now_s, booted_s = now_s + step_s + generator.uniform(-1e-4, 1e-4), booted_s + step_s
        one.note({"gateway": True}, (), now_s, booted_s)
    one.end()
    assert kept(tmp_path) == {"gateway": (1, 1)}
    assert one.share("gateway", HOUR_S, now_s) == pytest.approx(1.0)


def test_a_span_that_an_earlier_version_broke_into_many_is_one_again(tmp_path):
    breaks = [1_795_909_287.2375994 + 0.2137 * k for k in range(2001)]
    spans = [(a, b - 2.4e-7) for a, b in itertools.pairwise(breaks)]
    of_gateway = {"wanted": spans, "ready": spans[:500] + spans[600:], "counts": True}
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "availability.json").write_text(json.dumps({"services": {"gateway": of_gateway}}))
    one = Availability(tmp_path, breaks[-1], 1000.0)
    assert one.share("gateway", HOUR_S, breaks[-1]) == pytest.approx(0.95, abs=0.001)
    one.end()
    assert kept(tmp_path) == {"gateway": (1, 2)}
