"""Topics that are recreated or cut short under a desk, and ticks that retention deletes, on the real broker."""

from __future__ import annotations

import itertools
import re
import threading
import time

import httpx
import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from connectors.kafka.client import Producer
from connectors.kafka.watermarks import bounds
from gateway.control.control import Control
from loadtest.open_loop.publisher import TickPublisher
from loadtest.open_loop.schedule import Speed, plan
from stack.chaos.evidence import read_trail
from stack.chaos.feed import wait_until_decided
from stack.processes.gateway import SeriesTopics, series_gateway
from stack.processes.own import running
from stack.servers.kafka import create_topics
from tests.waiting import eventually
from trading.errors import ServiceUnavailable
from trading.history import open_source
from trading.risk.trading_state import TradingState

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("exported")]
NUMBERS = itertools.count()
PATIENT = {"budget_ms": "86400000", "reserve_ms": "0", "shed_below_ms": "0"}


class Desk:
    """A series of its own on the stack: its ticks and all that is made of them."""

    def __init__(self, stack):
        name = f"whose-{next(NUMBERS)}"
        self.stack, self.topics = stack, SeriesTopics(name, ticks=f"{name}.ticks")
        self.admin = AdminClient({"bootstrap.servers": stack.kafka_bootstrap})
        create_topics(stack, self.topics.names)

    def gateway(self, **more):
        return series_gateway(self.stack, self.topics, "a", **PATIENT, **more)

    def publish(self, ticks, seed=1):
        source = open_source(f"simulate:regimes?seed={seed}&ticks={ticks}&symbols=3")
        publisher = TickPublisher(self.stack.kafka_bootstrap, self.topics.ticks)
        publisher.publish(plan(source.records(), Speed("constant", rate_hz=2000.0)))

    def ends(self):
        """Of the partitions that hold anything."""
        found = {
            p: bounds(self.stack.kafka_bootstrap, self.topics.ticks, p)[1] for p in range(self.stack.partitions)
        }
        return {p: end for p, end in found.items() if end}

    def decide(self, ticks, seed=1):
        with running(self.gateway()) as process:
            process.wait_for_partitions()
            self.publish(ticks, seed)
            assert wait_until_decided(self.stack, self.topics.series, self.topics.ticks, self.ends(), 30.0)

    def recreate(self, topic):
        like = self.topics.names[topic]
        self.admin.delete_topics([topic])[topic].result(20)
        eventually(lambda: topic not in self.admin.list_topics(timeout=10).topics, 20)
        create_topics(self.stack, {topic: like})
        eventually(lambda: topic in self.admin.list_topics(timeout=10).topics, 20)


@pytest.fixture
def desk(stack):
    return Desk(stack)


def refused(desk):
    """What a gateway that does not start says."""
    with pytest.raises(ServiceUnavailable) as told, running(desk.gateway()) as process:
        process.wait_for_partitions()
    assert "begin a new book on purpose" in str(told.value)
    assert "Traceback" not in str(told.value)
    return str(told.value)


def test_ticks_that_are_deleted_and_made_anew_below_what_is_decided_are_refused(desk):
    desk.decide(600)
    desk.recreate(desk.topics.ticks)
    desk.publish(30)
    assert re.search(r"is decided to \d+ and ends at \d+", refused(desk))


def test_ticks_that_have_outgrown_what_was_decided_of_others_are_refused(desk):
    desk.decide(300)
    desk.recreate(desk.topics.ticks)
    desk.publish(900, seed=2)
    assert "a topic was recreated" in refused(desk)


def test_decisions_that_are_made_anew_are_no_flat_book(desk):
    desk.decide(600)
    desk.recreate(desk.topics.decisions)
    assert re.search("is committed to .* of the log .* a topic was recreated", refused(desk))


def test_ticks_that_were_deleted_before_they_were_decided_halt_the_desk(desk):
    stack, lost = desk.stack, 0
    desk.decide(300)
    before = desk.ends()
    desk.publish(600, seed=3)
    later = {p: (end + before[p] + 1) // 2 for p, end in desk.ends().items() if end > before[p] + 1}
    gone = [TopicPartition(desk.topics.ticks, p, offset) for p, offset in later.items()]
    for future in desk.admin.delete_records(gone).values():
        future.result(20)
    lost = sum(offset - before[p] for p, offset in later.items())
    assert lost > 50
    control = Control(stack.kafka_bootstrap, f"{desk.topics.series}.control", stack.redis_url)
    try:
        with running(desk.gateway()) as process:
            process.wait_for_partitions()
            assert process.scrape().value("gateway_lost_ticks_total") == lost
            state = httpx.get(f"http://127.0.0.1:{process.port}/status").json()["trading_state"]
            assert state == "halted"
            assert "were deleted before they were decided" in control.effective().reason
            assert wait_until_decided(stack, desk.topics.series, desk.topics.ticks, desk.ends(), 30.0)
            control.latch(TradingState.ACTIVE, "looked", "test")
        with running(desk.gateway()) as process:  # and what is known is not told again
            process.wait_for_partitions()
            assert process.scrape().value("gateway_lost_ticks_total") == 0
    finally:
        control.latch(TradingState.ACTIVE, "test over", "test")


def test_a_producer_whose_clock_is_ahead_moves_nobodys_time(desk):
    """Its ticks are dead letters, whatever time it claims to have sent them at."""
    ahead = time.time_ns() + 3_600 * 10**9
    producer = Producer({"bootstrap.servers": desk.stack.kafka_bootstrap})
    with running(desk.gateway()) as process:
        process.wait_for_partitions()
        payload = b'{"symbol":"SIM1","event_time_ns":%d,"last":1.0}' % ahead
        producer.produce(
            desk.topics.ticks,
            payload,
            b"SIM1",
            partition=0,
            timestamp=ahead // 10**6,
            headers=[("sent-ns", b"%d" % ahead)],
        )
        assert producer.flush(10) == 0
        eventually(lambda: process.scrape().value("gateway_dead_letters_total") == 1, 20)
        desk.publish(60)
        assert wait_until_decided(desk.stack, desk.topics.series, desk.topics.ticks, desk.ends(), 30.0)
        assert process.scrape().value("gateway_dead_letters_total") == 1


@pytest.mark.parametrize("busy", [True, False])
def test_of_two_gateways_of_one_name_the_later_decides_and_the_other_says_why_it_ends(desk, tmp_path, busy):
    """As on two machines: the lock that keeps one machine from it lies in another folder.

    Where nothing comes, no transaction fails either: only the group tells.
    """
    elsewhere = {"TMPDIR": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)}
    first, second = desk.gateway(), desk.gateway(environment=elsewhere)
    first.log, second.log = tmp_path / "first.log", tmp_path / "second.log"
    stopping = threading.Event()

    def feed():
        seed = 10
        while busy and not stopping.is_set():
            desk.publish(200, seed)
            seed += 1

    feeding = threading.Thread(target=feed)
    try:
        first.start()
        first.wait_for_partitions()
        feeding.start()
        second.start()
        eventually(lambda: first.ended() is not None, 60)
        second.wait_for_partitions()
        stopping.set()
        feeding.join()
        desk.publish(200, 9)
        assert wait_until_decided(desk.stack, desk.topics.series, desk.topics.ticks, desk.ends(), 30.0)
    finally:
        stopping.set()
        first.kill()
        second.kill()
    said = first.log.read_text()
    assert "another gateway runs as 'a' in the group" in said
    assert "Traceback" not in said
    # They fence each other until the group has told the first, which is within a heartbeat.
    assert second.log.read_text().count("transaction failed") <= 20
    trail = read_trail(desk.stack.kafka_bootstrap, desk.topics.decisions, desk.topics.dead_letters)
    assert set(trail.evidence) == {(p, offset) for p, end in desk.ends().items() for offset in range(end)}
    assert (trail.repeated, trail.disordered, trail.broken) == ([], [], [])
