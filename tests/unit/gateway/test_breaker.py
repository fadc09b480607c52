"""What keeps failing is not waited for, and is tried again by one batch at a time."""

from __future__ import annotations

import numpy as np
import pytest

from gateway.breaker import BreakerState, CircuitBreaker, GuardedPredictor
from tests.fakes import FakePredictor
from trading.errors import PredictorTimeout, PredictorUnavailable

ROWS = np.zeros((2, 32), np.float32)


class Bench:
    def __init__(self, **given):
        self.now = 0.0
        self.seen = []
        self.breaker = CircuitBreaker(lambda: self.now, changed=self.seen.append, **given)
        self.inner = FakePredictor()
        self.guarded = GuardedPredictor(self.inner, self.breaker)

    def ask(self, error=None):
        self.inner.error = error
        return self.guarded.predict(ROWS, 0.05)

    def fail(self, times):
        for _ in range(times):
            with pytest.raises(PredictorTimeout):
                self.ask(PredictorTimeout("slow"))


def test_failures_in_a_row_open_it_and_single_ones_do_not():
    bench = Bench(failures=3)
    bench.fail(2)
    bench.ask()
    bench.fail(2)
    assert bench.breaker.state is BreakerState.CLOSED
    bench.fail(1)
    assert bench.breaker.state is BreakerState.OPEN


def test_open_nothing_is_asked():
    bench = Bench(failures=1)
    bench.fail(1)
    asked = len(bench.inner.batches)
    with pytest.raises(PredictorUnavailable, match="circuit breaker"):
        bench.ask()
    assert len(bench.inner.batches) == asked


def test_after_a_pause_one_probe_is_admitted_and_its_success_closes():
    bench = Bench(failures=1, pause_s=0.25)
    bench.fail(1)
    bench.now = 0.25
    bench.inner.error = None
    bench.inner.while_asked = lambda: states.append(bench.breaker.state)
    states = []
    bench.ask()
    assert states == [BreakerState.HALF_OPEN]
    assert bench.seen == [BreakerState.OPEN, BreakerState.HALF_OPEN, BreakerState.CLOSED]


def test_half_open_only_the_probe_is_asked():
    bench = Bench(failures=1, pause_s=0.25)
    bench.fail(1)
    bench.now = 0.25
    assert [bench.breaker.allows() for _ in range(3)] == [True, False, False]
    bench.breaker.succeeded()
    assert bench.breaker.allows()


def test_a_probe_that_fails_doubles_the_pause_up_to_its_longest():
    bench = Bench(failures=1, pause_s=0.25, longest_pause_s=0.5)
    bench.fail(1)
    for pause in (0.25, 0.5, 0.5):
        bench.now += pause - 0.125
        with pytest.raises(PredictorUnavailable):
            bench.ask()
        bench.now += 0.125
        bench.fail(1)
    bench.now += 0.5
    bench.ask()
    bench.fail(1)
    bench.now += 0.25
    bench.ask()


def test_failures_of_what_was_asked_before_it_opened_change_nothing():
    bench = Bench(failures=1, pause_s=0.25)
    bench.fail(1)
    bench.breaker.failed()
    bench.inner.error = None
    bench.now = 0.25
    bench.ask()
    assert bench.breaker.state is BreakerState.CLOSED


def test_a_timeout_that_was_too_short_to_be_fair_is_not_counted():
    bench = Bench(failures=1, pause_s=0.25)
    bench.inner.error = PredictorTimeout("slow")
    with pytest.raises(PredictorTimeout):
        bench.guarded.predict(ROWS, 0.003)
    assert bench.breaker.state is BreakerState.CLOSED
    with pytest.raises(PredictorTimeout):
        bench.guarded.predict(ROWS, 0.045)
    assert bench.breaker.state is BreakerState.OPEN


def test_a_probe_that_times_out_opens_again_however_short_its_time():
    bench = Bench(failures=1, pause_s=0.25)
    bench.fail(1)
    bench.now = 0.25
    bench.inner.error = PredictorTimeout("slow")
    with pytest.raises(PredictorTimeout):
        bench.guarded.predict(ROWS, 0.003)
    assert bench.breaker.state is BreakerState.OPEN
