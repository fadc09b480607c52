"""A source that fails or hangs keeps nobody else from being seen, and what is old is not shown as now."""

from __future__ import annotations

import threading

import pytest
from prometheus_client import generate_latest
from prometheus_client.core import GaugeMetricFamily

from services.metrics.gathering import STALE_LOOKS, STARTS_S, Gatherer, Watched
from tests.waiting import eventually


class One:
    """A source of one figure; does what it is told."""

    def __init__(self, name="one", act=lambda: None):
        self.name, self._act, self.closed = name, act, False

    def look(self):
        self._act()
        return [GaugeMetricFamily(f"{self.name}_figure", "of a test", value=7.0)]

    def close(self):
        self.closed = True


def test_a_hanging_source_and_a_failing_one_keep_nobody_from_being_seen():
    hang = threading.Event()

    def fail():
        raise OSError("it is gone")

    sources = [One("hangs", lambda: hang.wait(60)), One("fails", fail), One("works")]
    gatherer = Gatherer(sources, 0.02)
    gatherer.start()
    try:
        eventually(lambda: "works_figure 7.0" in generate_latest(gatherer.registry).decode())
        text = generate_latest(gatherer.registry).decode()
        assert 'metrics_source_up{source="works"} 1.0' in text
        assert 'metrics_source_up{source="hangs"} 0.0' in text
        assert 'metrics_source_up{source="fails"} 0.0' in text
        assert "hangs_figure" not in text
        eventually(
            lambda: (
                'metrics_source_failures_total{source="fails"} 0.0'
                not in generate_latest(gatherer.registry).decode()
            )
        )
    finally:
        hang.set()
        gatherer.close()
    assert all(source.closed for source in sources)


def test_what_was_seen_is_shown_for_a_while_and_then_no_more():
    now, fails = [0.0], [False]

    def act():
        if fails[0]:
            raise OSError("gone")

    watched = Watched(One(act=act), 5.0, lambda: now[0])
    assert (watched.is_up, list(watched.shown())) == (False, [])
    watched.look()
    assert watched.is_up
    fails[0] = True
    now[0] = 5.0
    watched.look()
    assert not watched.is_up
    assert len(watched.shown()) == 1
    now[0] = STALE_LOOKS * 5.0 + 2.0
    assert list(watched.shown()) == []
    fails[0] = False
    watched.look()
    assert watched.is_up
    assert (watched.looks, watched.failures) == (3, 1)


def test_a_server_that_starts_with_everything_else_is_looked_for_soon_and_not_missed_yet():
    answers = threading.Event()

    def act():
        if not answers.is_set():
            raise OSError("it starts")

    # The next look of a seen one would be an hour away.
    gatherer = Gatherer([One(act=act)], 3600.0)
    gatherer.start()
    try:
        eventually(lambda: "source_failures_total" in generate_latest(gatherer.registry).decode())
        text = generate_latest(gatherer.registry).decode()
        # Whoever alarms is not told that it is well; whoever starts it all, that it may be early.
        assert 'metrics_source_up{source="one"} 0.0' in text
        assert 'metrics_source_starting{source="one"} 1.0' in text
        answers.set()
        assert eventually(
            lambda: 'metrics_source_up{source="one"} 1.0' in generate_latest(gatherer.registry).decode(), 10
        )
        assert 'metrics_source_starting{source="one"} 0.0' in generate_latest(gatherer.registry).decode()
    finally:
        gatherer.close()


def test_one_that_never_starts_is_missed_and_one_that_was_seen_at_once():
    now, fails = [0.0], [True]

    def act():
        if fails[0]:
            raise OSError("gone")

    watched = Watched(One(act=act), 5.0, lambda: now[0])
    watched.look()
    assert watched.may_be_starting
    now[0] = STARTS_S
    assert (watched.may_be_starting, watched.is_up) == (False, False)
    now[0], fails[0] = 0.0, False
    seen = Watched(One(act=act), 5.0, lambda: now[0])
    seen.look()
    fails[0] = True
    seen.look()
    assert (seen.may_be_starting, seen.is_up) == (False, False)


def test_a_source_that_is_not_asked_any_more_is_not_up():
    now = [0.0]
    watched = Watched(One(), 5.0, lambda: now[0])
    watched.look()
    now[0] = 100.0
    assert not watched.is_up


@pytest.mark.parametrize("error", [ValueError("x"), KeyError("y"), RuntimeError("z")])
def test_whatever_a_client_raises_is_a_failed_look(error):
    def act():
        raise error

    watched = Watched(One(act=act), 5.0)
    watched.look()
    assert (watched.failures, watched.is_up) == (1, False)
