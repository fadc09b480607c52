"""Ticks in, decisions out, while Triton and the gateway are killed: nothing missing, nothing twice."""

from __future__ import annotations

import os
import signal
import threading
import time

import msgspec
import pytest

from connectors.kafka.client import Consumer, Producer
from loadtest.open_loop.publisher import TickPublisher
from loadtest.open_loop.schedule import Speed, plan
from loadtest.open_loop.watcher import DecisionWatcher, completeness
from stack.processes.gateway import GatewayProcess, running_gateway
from stack.servers.ports import free_ports
from stack.supervision.status import read_status
from stack.workflows.export_workflow import export
from trading.dead_letters import DeadLetter
from trading.decision.wire import place
from trading.history import open_source

SOURCE = "simulate:regimes?seed=9&ticks=6000&symbols=8"


@pytest.mark.slow
@pytest.mark.usefixtures("exported")
def test_nothing_is_lost_or_repeated_when_triton_and_the_gateway_are_killed(stack):
    watcher = DecisionWatcher(stack.kafka_bootstrap, "trading.decisions")
    publisher = TickPublisher(stack.kafka_bootstrap, "market.ticks")
    sent = {}

    def publish():
        sent["run"] = publisher.publish(plan(open_source(SOURCE).records(), Speed.parse("400/s")))

    thread = threading.Thread(target=publish)
    with pytest.raises(Exception, match="137"), running_gateway(stack) as gateway:
        thread.start()
        time.sleep(3)
        status = read_status(stack.absolute_home)
        os.kill(next(s for s in status.services if s.name == "triton").process.pid, signal.SIGKILL)
        time.sleep(4)
        gateway.signal(signal.SIGKILL)
    with running_gateway(stack):
        thread.join(60)
        published = sent["run"].intended_ns
        watcher.wait_for(published, 15.0)
        # Triton is back by itself: ticks sent now are inferred again.
        after = publisher.publish(
            plan(open_source("simulate:calm?seed=3&ticks=400").records(), Speed.parse("200/s"))
        ).intended_ns
        watcher.wait_for(after, 15.0)
        time.sleep(0.5)
    watcher.close()
    counts = completeness(published, watcher.payloads)
    assert (counts.ticks, counts.missing, counts.repeated) == (6000, 0, 0)
    decisions = watcher.decisions()
    reasons = {d.reason.value for d in decisions}
    assert "predictor_unavailable" in reasons
    assert completeness(after, watcher.payloads).missing == 0
    assert any(d.regime_probabilities for d in decisions if place(d.decision_id) in after)
    assert all(d.verdict is not None for d in decisions if d.quantity)


@pytest.mark.slow
@pytest.mark.usefixtures("exported")
@pytest.mark.parametrize("still_s", [1.5, 4.0])
def test_a_lone_broker_that_stands_still_for_longer_than_its_session_is_back_with_everything(stack, still_s):
    """Its controller, which stood still too, may take it for gone, and is told otherwise a moment later."""
    watcher = DecisionWatcher(stack.kafka_bootstrap, "trading.decisions")
    publisher = TickPublisher(stack.kafka_bootstrap, "market.ticks")
    sent = {}

    def publish():
        source = open_source("simulate:regimes?seed=11&ticks=4000&symbols=3")
        sent["run"] = publisher.publish(plan(source.records(), Speed.parse("400/s")))

    thread = threading.Thread(target=publish)
    with running_gateway(stack) as gateway:
        thread.start()
        for _ in range(2):
            time.sleep(2)
            broker = next(s for s in read_status(stack.absolute_home).services if s.name == "kafka-1").process.pid
            os.kill(broker, signal.SIGSTOP)
            time.sleep(still_s)
            os.kill(broker, signal.SIGCONT)
        thread.join(60)
        watcher.wait_for(sent["run"].intended_ns, 15.0)
        assert gateway.ended() is None
    watcher.close()
    counts = completeness(sent["run"].intended_ns, watcher.payloads)
    assert (counts.ticks, counts.missing, counts.repeated) == (4000, 0, 0)


@pytest.mark.slow
@pytest.mark.usefixtures("exported")
def test_rubbish_becomes_dead_letters_and_the_ticks_beside_it_are_decided(stack):
    watcher = DecisionWatcher(stack.kafka_bootstrap, "trading.decisions")
    letters = Consumer(
        {"bootstrap.servers": stack.kafka_bootstrap, "group.id": "letters", "auto.offset.reset": "earliest"}
    )
    letters.subscribe(["market.ticks.dlq"])
    producer = Producer({"bootstrap.servers": stack.kafka_bootstrap})
    # A key of its own: other tests send rubbish too.
    for payload in (b"rubbish", b"{}", b"\xff\xfe", b'{"symbol":"A","event_time_ns":1,"bid":-1}'):
        producer.produce("market.ticks", payload, b"RUBBISH-TEST")
    producer.flush(10)
    with running_gateway(stack):
        published = TickPublisher(stack.kafka_bootstrap, "market.ticks").publish(
            plan(open_source("simulate:calm?ticks=200").records(), Speed.parse("400/s"))
        )
        watcher.wait_for(published.intended_ns, 15.0)
    watcher.close()
    counts = completeness(published.intended_ns, watcher.payloads)
    assert (counts.missing, counts.repeated) == (0, 0)
    found = []
    deadline = time.monotonic() + 20
    while len(found) < 4 and time.monotonic() < deadline:
        message = letters.poll(0.5)
        if message is not None and message.error() is None and message.key() == b"RUBBISH-TEST":
            found.append(msgspec.json.decode(message.value(), type=DeadLetter))
    letters.close()
    assert [letter.payload for letter in found][:2] == ["rubbish", "{}"]
    assert len(found) == 4
    assert all(letter.reason and letter.topic == "market.ticks" for letter in found)


@pytest.mark.slow
@pytest.mark.usefixtures("exported")
def test_partitions_move_between_gateways_and_nothing_is_lost_or_repeated(stack):
    watcher = DecisionWatcher(stack.kafka_bootstrap, "trading.decisions")
    publisher = TickPublisher(stack.kafka_bootstrap, "market.ticks")
    sent = {}

    def publish():
        source = open_source("simulate:regimes?seed=21&ticks=8000&symbols=16")
        sent["run"] = publisher.publish(plan(source.records(), Speed.parse("300/s")))

    thread = threading.Thread(target=publish)
    (port,) = free_ports(1)
    with running_gateway(stack):
        thread.start()
        second = GatewayProcess(stack, log_name="second", port=port)
        try:
            second.start()
            second.wait_for_partitions(2, timeout_s=30.0)
            time.sleep(2)
        finally:
            second.kill()
        thread.join(60)
        published = sent["run"].intended_ns
        watcher.wait_for(published, 25.0)
        time.sleep(0.5)
    watcher.close()
    counts = completeness(published, watcher.payloads)
    assert (counts.ticks, counts.missing, counts.repeated) == (8000, 0, 0)
    offsets = {}
    for decision in watcher.decisions():
        partition, offset = place(decision.decision_id)
        assert offset > offsets.get(partition, -1)
        offsets[partition] = offset


@pytest.mark.slow
@pytest.mark.usefixtures("exported")
def test_an_export_under_way_is_followed_by_the_running_gateway(stack):
    watcher = DecisionWatcher(stack.kafka_bootstrap, "trading.decisions")
    publisher = TickPublisher(stack.kafka_bootstrap, "market.ticks")
    # No deadline: which version answers is what counts, not when.
    with running_gateway(stack, budget_ms="60000", reserve_ms="0", shed_below_ms="0"):
        served = export(lambda _: None)
        newest = next(str(e.version) for e in served if e.name == "trading_decision")
        time.sleep(0.5)
        source = open_source("simulate:calm?seed=5&ticks=600")
        published = publisher.publish(plan(source.records(), Speed.parse("200/s"))).intended_ns
        watcher.wait_for(published, 15.0)
    watcher.close()
    assert completeness(published, watcher.payloads).missing == 0
    last = [d for d in watcher.decisions() if place(d.decision_id) in published][-100:]
    assert {d.model_version for d in last} == {newest}
    assert any(d.regime_probabilities for d in last)
