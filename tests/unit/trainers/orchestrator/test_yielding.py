"""Training stands still where the desk is slower than it should be."""

from __future__ import annotations

import math

from trainers.orchestrator.yielding import Yielding, YieldSettings


class Looks:
    """Looks a second apart."""

    def __init__(self, **given):
        self.yielding, self.now = Yielding(YieldSettings(**given)), 0.0

    def see(self, p99, times=1, *, running=True):
        for _ in range(times):
            self.now += 1.0
            found = self.yielding.look(p99, self.now, running=running)
        return found


def test_it_stands_still_above_the_bound_and_not_for_one_slow_look():
    looks = Looks()
    assert not looks.see(60.0)
    assert not looks.see(20.0)
    assert not looks.see(60.0)
    assert looks.see(60.0)
    assert looks.yielding.why == "the desk's p99 is 60.0 ms, above 50.0 ms"


def test_a_quarter_more_than_without_is_too_much():
    looks = Looks()
    looks.see(20.0, 30, running=False)
    assert looks.yielding.bound_ms() == 25.0
    assert not looks.see(24.9, 20)
    assert looks.see(25.1, 2)


def test_of_a_quick_desk_a_ratio_says_nothing():
    looks = Looks()
    looks.see(2.0, 30, running=False)
    assert not looks.see(9.0, 20)


def test_it_goes_on_when_the_desk_is_quick_again_and_rests_longer_each_time():
    looks = Looks(rest_s=10.0, most_rest_s=40.0)
    rests = []
    for _ in range(4):
        assert looks.see(80.0, 2)
        begin = looks.now
        while looks.see(10.0):
            pass
        rests.append(looks.now - begin)
        looks.see(10.0, 3)
    assert rests == sorted(rests)
    assert rests[0] == 10.0
    assert rests[-1] == 40.0


def test_a_desk_that_is_slow_by_itself_does_not_stop_it_for_good():
    looks = Looks(rest_s=10.0, trial_s=100.0)
    assert looks.see(80.0, 2)
    seen = 0
    while looks.see(80.0):
        seen += 1
    assert seen == 99


def test_who_is_not_seen_stops_nobody_and_nobody_stands_still_where_nothing_runs():
    looks = Looks()
    assert not looks.see(None, 20)
    assert looks.see(80.0, 2)
    assert not looks.see(80.0, running=False)
    assert not looks.yielding.paused


def test_a_desk_that_is_too_busy_to_answer_is_slow():
    looks = Looks()
    assert looks.see(math.inf, 2)
    assert looks.yielding.why == "the desk's gateway is too busy to say its p99, above 50.0 ms"
    assert looks.yielding.alone_ms is None
