"""A rehearsal ends when rounds are quick, or get no quicker, or time is up."""

from __future__ import annotations

import itertools

import pytest

from gateway.rehearsal import COMPARED, SIZES, rehearse
from tests.fakes import FakeClock

BUDGET_S = 0.05


class Rounds:
    """Rounds that take the milliseconds they are told to, the last of them over and over."""

    def __init__(self, clock, *taken_ms):
        self.clock = clock
        self.taken_ms = itertools.chain(taken_ms, itertools.repeat(taken_ms[-1]))
        self.rows = []

    def __call__(self, rows):
        self.rows.append(rows)
        self.clock.sleep(next(self.taken_ms) / 1e3)


def rehearsed(*taken_ms, longest_s=10.0):
    clock, said = FakeClock(), []
    rounds = Rounds(clock, *taken_ms)
    return rehearse(rounds, clock, longest_s, BUDGET_S, said.append), rounds.rows, said


def test_beside_warm_servers_it_is_over_at_once():
    done, rows, _ = rehearsed(6.0)
    assert (done.rounds, done.settled) == (COMPARED, True)
    assert done.seconds == pytest.approx(0.06)
    assert set(rows) == set(SIZES)


def test_one_slow_round_among_quick_ones_makes_more_of_them():
    done, _, _ = rehearsed(*[6.0] * 9, 40.0, 6.0)
    assert (done.rounds, done.settled) == (9 + 1 + COMPARED, True)


def test_it_goes_on_while_rounds_get_quicker():
    done, _, said = rehearsed(
        *[400.0] * 10, *[200.0] * 10, *[100.0] * 10, *[50.0] * 10, *[25.0] * 10, 10.0, longest_s=60
    )
    assert done.settled
    assert done.rounds == 60
    assert (done.first_ms, done.last_ms) == (400.0, 10.0)
    assert len(said) == 60
    assert said[0] == "warming up: 1 rounds, the last took 400 ms"


def test_servers_that_are_slow_for_good_are_not_waited_for():
    done, _, _ = rehearsed(30.0)
    assert (done.rounds, done.settled) == (2 * COMPARED, True)


def test_time_is_bounded():
    done, _, _ = rehearsed(*[1000.0 - 40 * k for k in range(25)], longest_s=3.5)
    assert not done.settled
    assert done.rounds == 4
    assert done.seconds < 3.5 + 1.0


def test_what_fails_is_told():
    def play(_):
        raise ValueError("gone")

    with pytest.raises(ValueError, match="gone"):
        rehearse(play, FakeClock(), 1.0, BUDGET_S, lambda _: None)
