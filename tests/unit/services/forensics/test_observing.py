"""What Prometheus is told of the trail: also when nobody says anything any more."""

from __future__ import annotations

from prometheus_client import generate_latest

from services.forensics.observing import LONGEST_TURN_S, Metrics
from stack.watching.alerts import ALERTS


def told(metrics, wanted="forensics_waiting"):
    lines = [line.split() for line in generate_latest(metrics.registry).decode().splitlines()]
    return next(float(value) for name, value in (line for line in lines if line[0] == wanted))


def test_who_hangs_in_a_turn_waits_and_who_turns_again_does_not():
    now, turns = [100.0], []
    metrics = Metrics(lambda total, waiting: turns.append((total, waiting)), clock=lambda: now[0])
    metrics.turn(7, "")
    now[0] += LONGEST_TURN_S
    assert told(metrics) == 0.0
    # PostgreSQL hangs: it neither answers nor refuses, and the turn that asked it never ends.
    now[0] += 0.1
    assert told(metrics) == 1.0
    metrics.turn(8, "")
    assert told(metrics) == 0.0
    metrics.turn(8, "PostgreSQL does not answer")
    assert told(metrics) == 1.0
    assert turns[-1] == (8, "PostgreSQL does not answer")


def test_who_never_ends_his_first_turn_waits_too():
    now = [0.0]
    metrics = Metrics(lambda *_: None, clock=lambda: now[0])
    assert told(metrics) == 0.0
    now[0] = LONGEST_TURN_S + 1
    assert told(metrics) == 1.0


def test_what_a_verification_came_to_is_told_by_the_names_that_alerts_read():
    metrics = Metrics(lambda *_: None)
    names = "forensics_verified_timestamp_seconds", "forensics_verification_findings"
    assert [told(metrics, name) for name in names] == [0.0, 0.0]
    metrics.verified(1_764_000_000_500_000_000, 3)
    assert [told(metrics, name) for name in names] == [1_764_000_000.5, 3.0]
    read = " ".join(alert.expr for alert in ALERTS)
    assert all(name in read for name in names)
