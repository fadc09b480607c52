"""The open model against a server whose latencies are known, in time that only passes when somebody waits."""

from __future__ import annotations

import heapq

import numpy as np
import pytest

from loadtest.measuring.latencies import Histogram
from loadtest.measuring.latency_tally import Tally
from loadtest.open_loop.pacing import pace
from loadtest.open_loop.schedule import Speed, until

MS = 1_000_000
S = 1000 * MS


class VirtualClock:
    """Time passes in sleep, and a little in every look."""

    def __init__(self):
        self.now = 7 * S

    def now_ns(self):
        self.now += 200
        return self.now

    def sleep_ns(self, ns):
        self.now += ns


class FakeServer:
    """Answers each request after its own delay; from `stall_at` on for `stall_ns` nothing at all is answered.

    With `one_at_a_time` a request waits for the one before it, as behind one worker.
    """

    def __init__(self, clock, delays_ns, stall_at=None, stall_ns=0, one_at_a_time=False):
        self.clock, self.delays = clock, delays_ns
        self.stall = None if stall_at is None else (stall_at, stall_at + stall_ns)
        self.one_at_a_time, self.free_at = one_at_a_time, 0
        self.rows = []

    def answer_at(self, sent):
        begins = max(sent, self.free_at) if self.one_at_a_time else sent
        if self.stall is not None and self.stall[0] <= begins < self.stall[1]:
            begins = self.stall[1]
        done = begins + int(self.delays[len(self.rows) % len(self.delays)])
        self.free_at = done
        return done

    def send(self, number, due):
        sent = self.clock.now_ns()
        self.rows.append((due, sent, self.answer_at(sent)))


def open_model(server, clock, speed, seconds):
    start = clock.now + 10 * MS
    pace(until(Speed.parse(speed).arrivals(1), limit=None, duration_s=seconds), server.send, clock, start)
    return np.array(server.rows, np.int64)


def closed_loop(server, clock, gap_ns, seconds):
    """Asks, waits for the answer, then for the rest of its gap."""
    raw, corrected, end = Histogram(), Histogram(), clock.now + int(seconds * S)
    while clock.now < end:
        begin = clock.now
        server.send(0, begin)
        clock.now = server.rows[-1][2]
        raw.add(np.array([clock.now - begin]))
        corrected.add_corrected(clock.now - begin, gap_ns)
        clock.now = max(clock.now, begin + gap_ns)
    return raw, corrected


def tally_of(rows, warm_up_s=0.0):
    made = Tally(int(rows[0, 0] + warm_up_s * S), int(rows[-1, 0]))
    made.add(rows[:, 0], rows[:, 1], rows[:, 2])
    made.plan(rows[:, 0], rows[:, 1])
    return made.result(target="t", settings={}, started_at="", warm_up_s=warm_up_s, sent=len(rows), missing=0)


@pytest.mark.parametrize("speed", ["500/s", "poisson:500/s", "bursts:200/s,2000/s,2s,0.3s"])
def test_known_percentiles_are_recovered_within_two_percent(speed):
    delays = (np.random.default_rng(3).lognormal(np.log(8.0), 0.6, 50_000) * MS).astype(np.int64)
    clock = VirtualClock()
    rows = open_model(FakeServer(clock, delays), clock, speed, 100.0)
    found = tally_of(rows)
    known = delays[np.arange(len(rows)) % len(delays)] / MS
    for q, measured in (
        (50, found.latency.p50),
        (95, found.latency.p95),
        (99, found.latency.p99),
        (99.9, found.latency.p99_9),
    ):
        assert measured == pytest.approx(np.percentile(known, q), rel=0.02), q
    assert found.latency.count == len(rows)
    assert found.lag.p99 < 0.5


def test_a_stall_is_seen_by_the_open_model_and_hidden_by_a_closed_loop():
    """500 ms of nothing at 200 a second: 100 arrivals wait, one caller waits once."""
    delays = np.full(1, 2 * MS)
    clock = VirtualClock()
    rows = open_model(FakeServer(clock, delays, clock.now + 5 * S, 500 * MS), clock, "200/s", 10.0)
    seen = tally_of(rows)
    clock = VirtualClock()
    raw, corrected = closed_loop(FakeServer(clock, delays, clock.now + 5 * S, 500 * MS), clock, 5 * MS, 10.0)
    # 100 of 2,000 arrivals met the stall: 1 % waited 400 ms or more.
    assert seen.latency.p99 == pytest.approx(402, rel=0.03)
    assert seen.latency.max == pytest.approx(502, rel=0.02)
    assert raw.percentile_ms(99) == pytest.approx(2.0, rel=0.02)
    assert raw.percentile_ms(99) < seen.latency.p99 / 100
    # Corrected by the gap that it meant to keep, the closed loop tells what the open model saw.
    assert corrected.percentile_ms(99) == pytest.approx(seen.latency.p99, rel=0.05)


def test_a_queue_shows_in_the_latency_though_the_service_is_quick():
    """One worker of 4 ms a request cannot answer 300 a second; the sender does not slow down for it."""
    clock = VirtualClock()
    rows = open_model(FakeServer(clock, np.full(1, 4 * MS), one_at_a_time=True), clock, "300/s", 10.0)
    found = tally_of(rows, warm_up_s=1.0)
    assert found.latency.max > 1000
    assert found.offered_per_s == pytest.approx(300, rel=0.01)
    assert found.achieved_ratio == pytest.approx(250 / 300, rel=0.02)


def test_a_generator_that_is_held_up_keeps_the_intended_times_and_tells_its_lag():
    clock = VirtualClock()
    server = FakeServer(clock, np.full(1, MS))

    def send(number, due):
        if number == 100:
            clock.now += 300 * MS
        server.send(number, due)

    start = clock.now
    pace(until(Speed.parse("100/s").arrivals(0), limit=200, duration_s=None), send, clock, start)
    rows = np.array(server.rows)
    assert (rows[:, 0] == start + np.arange(200) * 10 * MS).all()
    found = tally_of(rows)
    assert found.lag.max == pytest.approx(300, rel=0.01)
    assert found.latency.max == pytest.approx(301, rel=0.01)
    assert found.service.max == pytest.approx(1.0, rel=0.01)


def test_the_warm_up_is_left_out():
    clock = VirtualClock()
    delays = np.concatenate([np.full(100, 80 * MS), np.full(900, 2 * MS)])
    rows = open_model(FakeServer(clock, delays), clock, "100/s", 10.0)
    assert tally_of(rows).latency.max == pytest.approx(80, rel=0.01)
    assert tally_of(rows, warm_up_s=1.0).latency.max == pytest.approx(2, rel=0.01)


def test_nothing_is_sent_before_its_time_and_the_loop_serves_what_it_must_meanwhile():
    clock, served = VirtualClock(), []
    early = []
    start = clock.now + 50 * MS
    chunks = [np.array([0, 5 * MS, 5 * MS]), np.array([9 * MS])]
    count = pace(
        chunks, lambda _, due: early.append(clock.now - due), clock, start, lambda: served.append(clock.now)
    )
    assert count == 4
    assert min(early) >= 0
    assert len(served) > 2
    assert heapq.nlargest(1, early)[0] < MS
