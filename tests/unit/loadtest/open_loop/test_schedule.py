"""Arrivals are fixed before the run: their rates, their gaps, and that the same seed gives the same."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.open_loop.schedule import CHUNK, NS, Speed, plan, until
from trading.errors import ConfigurationError
from trading.history import open_source

RECORDED = np.array([5, 5, 9, 8, 30, 45], np.int64) * NS


def first(speed, n, seed=0, recorded=None):
    return np.concatenate(list(until(Speed.parse(speed).arrivals(seed, recorded), limit=n, duration_s=None)))


@pytest.mark.parametrize(
    ("text", "speed"),
    [
        ("real", Speed("recorded")),
        ("8x", Speed("recorded", factor=8.0)),
        ("1x", Speed("recorded")),
        ("50/s", Speed("constant", rate_hz=50.0)),
        ("poisson:2.5/s", Speed("poisson", rate_hz=2.5)),
        ("bursts:100/s,2000/s,10s,0.5s", Speed("bursts", rate_hz=100, peak_hz=2000, every_s=10, lasts_s=0.5)),
        ("max", Speed()),
    ],
)
def test_speeds_are_read(text, speed):
    assert Speed.parse(text) == speed


@pytest.mark.parametrize(
    "text", ["fast", "0x", "-1x", "x", "10", "0/s", "poisson:0/s", "poisson:3x", "bursts:1/s,2/s,3s"]
)
def test_a_wrong_speed_says_what_was_expected(text):
    with pytest.raises(ConfigurationError, match="expected real, Nx"):
        Speed.parse(text)


def test_a_burst_must_end_before_the_next():
    with pytest.raises(ConfigurationError, match="does not end within 2 s"):
        Speed.parse("bursts:1/s,9/s,2s,2s")


def test_a_constant_rate_has_equal_gaps_over_chunks():
    found = first("1000/s", 3 * CHUNK)
    assert (np.abs(np.diff(found) - NS // 1000) <= 1).all()
    assert found[0] == 0


def test_poisson_arrivals_have_exponential_gaps_and_a_seed():
    found = first("poisson:200/s", 50_000, seed=3)
    gaps = np.diff(found) / NS
    assert gaps.mean() == pytest.approx(1 / 200, rel=0.02)
    assert gaps.std() == pytest.approx(1 / 200, rel=0.03)
    assert (found == first("poisson:200/s", 50_000, seed=3)).all()
    assert not (found[:50] == first("poisson:200/s", 50, seed=4)).all()


def test_bursts_have_their_rates_and_their_rhythm():
    found = first("bursts:100/s,2000/s,10s,1s", 8700) / NS
    in_period = found % 10.0
    assert ((found < 10.0).sum(), (found < 30.0).sum()) == (2000 + 900, 3 * 2900)
    assert (in_period < 1.0).sum() == 3 * 2000
    assert (np.diff(found) > 0).all()


def test_recorded_gaps_are_kept_divided_and_begin_anew():
    found = first("2x", 9, recorded=RECORDED) / NS
    assert found[:6].tolist() == [0, 0, 2, 2, 12.5, 20]
    turn = (40 + 40 / 5) / 2
    assert found[6:9].tolist() == pytest.approx([turn, turn, turn + 2])


def test_recorded_gaps_without_a_recording_are_an_error():
    with pytest.raises(ValueError, match="recorded"):
        next(iter(Speed.parse("1x").arrivals(0)))


@given(
    st.sampled_from(["300/s", "poisson:300/s", "bursts:50/s,500/s,3s,1s", "max", "4x"]),
    st.integers(0, 3),
    st.integers(1, 3 * CHUNK),
)
def test_arrivals_never_step_back_and_a_limit_is_kept(speed, seed, limit):
    chunks = list(until(Speed.parse(speed).arrivals(seed, RECORDED), limit=limit, duration_s=None))
    found = np.concatenate(chunks)
    assert len(found) == limit
    assert (np.diff(found) >= 0).all()


def test_a_duration_ends_a_run():
    found = np.concatenate(list(until(Speed.parse("1000/s").arrivals(0), limit=None, duration_s=7.5)))
    assert len(found) == 7500
    both = np.concatenate(list(until(Speed.parse("1000/s").arrivals(0), limit=100, duration_s=7.5)))
    assert len(both) == 100


def test_a_plan_keeps_the_recorded_gaps_and_never_steps_back():
    records = list(open_source("simulate:calm?ticks=100").records())
    planned = list(plan(iter(records), Speed.parse("2x")))
    span = (records[-1].arrival_ns - records[0].arrival_ns) / 2
    assert planned[-1].after_ns == pytest.approx(span, abs=2)
    assert all(a.after_ns <= b.after_ns for a, b in zip(planned, planned[1:], strict=False))
    steady = list(plan(iter(records), Speed.parse("1000/s")))
    assert (steady[50].after_ns, len(steady)) == (50_000_000, 100)
