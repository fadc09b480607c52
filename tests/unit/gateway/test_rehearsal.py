"""A rehearsal ends when rounds are quick, or get no quicker, or time is up."""

from __future__ import annotations

import itertools

import pytest

from gateway.rehearsal import COMPARED, SIZES, rehearse
from tests.fakes import FakeClock

BUDGET_S = 0.05


class Rounds:
    """Rounds that take the milliseconds they are told to, the last of them over and over; more rows take longer."""

    def __init__(self, clock, *taken_ms, a_row_ms=0.0):
        self.clock, self.a_row_ms = clock, a_row_ms
        self.taken_ms = itertools.chain(taken_ms, itertools.repeat(taken_ms[-1]))
        self.rows = []

    def __call__(self, rows):
        self.rows.append(rows)
        self.clock.sleep((next(self.taken_ms) + self.a_row_ms * rows) / 1e3)


def rehearsed(*taken_ms, longest_s=10.0, a_row_ms=0.0):
    clock, said = FakeClock(), []
    rounds = Rounds(clock, *taken_ms, a_row_ms=a_row_ms)
    return rehearse(rounds, clock, longest_s, BUDGET_S, said.append), rounds.rows, said


def test_beside_warm_servers_it_is_over_at_once():
    done, rows, _ = rehearsed(6.0)
    assert (done.rounds, done.settled) == (COMPARED, True)
    assert done.seconds == pytest.approx(0.006 * COMPARED)
    assert set(rows) == set(SIZES)


def test_one_slow_round_among_quick_ones_makes_more_of_them():
    done, _, _ = rehearsed(*[6.0] * 9, 40.0, 6.0)
    assert (done.rounds, done.settled) == (9 + 1 + COMPARED, True)


@pytest.mark.parametrize("gain", [0.85, 0.8, 0.7])
def test_what_gets_quicker_is_seen_whatever_its_rows_cost(gain):
    """Both halves that are compared hold as many rounds of each size."""
    getting = [60.0 * gain ** (k // COMPARED) for k in range(4 * COMPARED)]
    done, rows, _ = rehearsed(*getting, longest_s=60, a_row_ms=0.01)
    assert COMPARED % len(SIZES) == 0
    assert done.rounds >= 4 * COMPARED
    assert done.last_ms < gain * done.first_ms
    assert rows[: len(SIZES)] == list(SIZES)


def test_it_goes_on_while_rounds_get_quicker():
    slow = [taken for taken in (400.0, 200.0, 100.0, 50.0, 25.0) for _ in range(COMPARED)]
    done, _, said = rehearsed(*slow, 10.0, longest_s=60)
    assert done.settled
    assert done.rounds == 6 * COMPARED
    assert (done.first_ms, done.last_ms) == (400.0, 10.0)
    assert len(said) == done.rounds
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
