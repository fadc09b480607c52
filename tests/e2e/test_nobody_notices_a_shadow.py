"""What a desk decides is the same, byte for byte, whether a shadow watches it, is slow, hangs, or has crashed."""

from __future__ import annotations

import signal

import pytest

from connectors.kafka.watermarks import bounds
from gateway.control import topic as control_topic
from loadtest.open_loop.publisher import TickPublisher
from loadtest.open_loop.schedule import Speed, plan
from stack.chaos.evidence import Span, compare, read_trail
from stack.chaos.feed import wait_until_decided
from stack.processes.gateway import SeriesTopics, series_gateway
from stack.processes.own import running
from stack.servers.kafka import create_topics
from stack.workflows.experiments.hosted import HostedExperiment, champion_of, new_challenger
from tests.waiting import eventually
from trading.encoding import encode
from trading.experiments.definition import Challenger, ExperimentDefinition, PrimaryMetric
from trading.experiments.register import ExperimentWord
from trading.history import open_source

pytestmark = pytest.mark.usefixtures("exported")
PATIENT = {"budget_ms": "86400000", "reserve_ms": "0", "shed_below_ms": "0"}
TICKS = list(open_source("simulate:regimes?seed=4&ticks=6000&symbols=6").records())


@pytest.mark.slow
def test_decisions_are_the_same_with_a_shadow_that_is_off_slow_hung_or_crashed(stack, tmp_path, monkeypatch):
    watched, alone = (SeriesTopics(name, "beside.ticks") for name in ("watched", "alone"))
    for topics in (watched, alone):
        create_topics(stack, topics.names)
    challenger = new_challenger(stack)
    definition = ExperimentDefinition(
        1, "beside", champion_of(stack), (Challenger("newer", challenger.model, challenger.version),),
        PrimaryMetric(1.0), block="1s",
    )  # fmt: skip
    # Slow: a twentieth of the time may be spent in calls.
    monkeypatch.setenv("ULTRATHINK_EXPERIMENTS_SHARE", "0.05")
    hosted = HostedExperiment(stack, watched, definition, tmp_path)
    sent = 0

    def send(count):
        nonlocal sent
        mine = TICKS[sent : sent + count]
        sent += count
        publisher = TickPublisher(stack.kafka_bootstrap, watched.ticks)
        publisher.publish(plan(iter(mine), Speed("constant", rate_hz=2000.0)), keep_times=False)

    try:
        hosted.begin()
        with running(series_gateway(stack, watched, "one", **PATIENT)) as gateway:
            gateway.wait_for_partitions()
            send(2000)
            eventually(
                lambda: sum(v for k, v in hosted.metrics().items() if k.startswith("experiments_blocks")) > 0
            )
            hosted.watching.signal(signal.SIGSTOP)
            send(2000)
            hosted.watching.signal(signal.SIGCONT)
            hosted.watching.kill()
            send(2000)
            ends = {p: end for p, end in ends_of(stack, watched).items() if end}
            assert wait_until_decided(stack, watched.series, watched.ticks, ends, 60.0)
    finally:
        hosted.watching.kill()
    # The same commands, which decisions name, and nobody who watches.
    for word in (ExperimentWord("create", "beside", definition), ExperimentWord("start", "beside")):
        told = control_topic.told("experiment", encode(word).decode(), "nobody is asked: a trial", "a trial")
        control_topic.send(stack.kafka_bootstrap, alone.control, told)
    with running(series_gateway(stack, alone, "one", **PATIENT)) as gateway:
        gateway.wait_for_partitions()
        assert wait_until_decided(stack, alone.series, alone.ticks, ends, 60.0)
    trails = [read_trail(stack.kafka_bootstrap, one.decisions, one.dead_letters) for one in (alone, watched)]
    whole = Span(dict.fromkeys(ends, 0), ends)
    verdict = compare(*trails, whole, whole_evidence=True)
    assert verdict.ok, verdict
    assert verdict.ticks == len(TICKS)


def ends_of(stack, topics):
    return {p: bounds(stack.kafka_bootstrap, topics.ticks, p)[1] for p in range(stack.partitions)}
