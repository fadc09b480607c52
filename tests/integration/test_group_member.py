"""A gateway's place in the consumer group, on the real broker: who is fenced by whom."""

from __future__ import annotations

import itertools
import threading
import time
from functools import partial

import pytest

from connectors.kafka.client import Consumer, Producer
from connectors.kafka.cluster import static_member
from connectors.logs import kafka_logger
from gateway.adapters.kafka_source import KafkaTickSource
from stack.processes.gateway import SeriesTopics
from stack.servers.kafka import create_topics
from tests.fakes import FakeAssignment
from tests.waiting import eventually
from trading.errors import ServiceUnavailable
from trading.state.partition import PartitionState
from trading.state.recovery import Restored

NUMBERS = itertools.count()


class Member:
    """A source whose partitions are rebuilt as they come, each from what was read of it."""

    def __init__(self, stack):
        self.bootstrap, self.group = stack.kafka_bootstrap, f"member-{next(NUMBERS)}"
        topics = SeriesTopics(self.group, ticks=f"{self.group}.ticks")
        create_topics(stack, topics.names)
        self.topic, self.told, self.read = topics.ticks, FakeAssignment(), {}
        self.source = KafkaTickSource(
            self.bootstrap, self.group, "a", self.topic, "log",
            lambda partition: Restored(PartitionState(), len(self.read.get(partition, [])), 0, []), self.told,
        )  # fmt: skip

    def send(self, count):
        producer = Producer({"bootstrap.servers": self.bootstrap})
        for k in range(count):
            producer.produce(self.topic, f"{k}".encode(), partition=k % 2)
        assert producer.flush(10) == 0

    def poll(self):
        if batch := self.source.poll(100, 0.05):
            for part in batch.slices:
                self.read.setdefault(part.partition, []).extend(part.offsets)
        return self.read

    def is_fenced(self):
        """What the client logs then."""
        logger = kafka_logger(fatal=partial(self.source._membership._note, self.source._membership._members))
        logger.critical("FATAL [rdkafka#consumer-1]: Broker: Static consumer fenced by other consumer")


@pytest.fixture
def member(stack):
    made = Member(stack)
    yield made
    made.source.close()


def test_who_is_fenced_while_the_group_still_knows_it_joins_anew_and_reads_on(member):
    """librdkafka forgets its id when its session times out, and a heartbeat without one is fenced."""
    member.send(10)
    eventually(lambda: member.poll() == {0: [*range(5)], 1: [*range(5)]}, 20)
    before = static_member(member.bootstrap, member.group, "a")
    assert before == member.source._consumer.memberid()
    member.is_fenced()
    member.send(10)
    eventually(lambda: member.poll() == {0: [*range(10)], 1: [*range(10)]}, 20)
    assert static_member(member.bootstrap, member.group, "a") not in {before, None}
    everything = {p for _, p in member.told.heard if isinstance(p, int)}
    ready, lost = [("ready", p) for p in sorted(everything)], ("lost", sorted(everything))
    assert sorted(member.told.heard[: len(ready)]) == ready
    assert member.told.heard[len(ready)] == lost
    assert sorted(member.told.heard[len(ready) + 1 :]) == ready


def test_who_is_fenced_by_another_process_stops(member):
    member.send(2)
    eventually(lambda: member.poll() == {0: [0], 1: [0]}, 20)
    before = static_member(member.bootstrap, member.group, "a")
    other = Consumer(
        {"bootstrap.servers": member.bootstrap, "group.id": member.group, "group.instance.id": "a",
         "partition.assignment.strategy": "cooperative-sticky"}
    )  # fmt: skip
    try:
        other.subscribe([member.topic])
        eventually(
            lambda: other.poll(0.1) is None and static_member(member.bootstrap, member.group, "a") != before, 20
        )
        with pytest.raises(ServiceUnavailable, match="another gateway runs as 'a' in the group"):
            eventually(lambda: member.poll() is None, 20)
        # Whoever publishes is told the same.
        with pytest.raises(ServiceUnavailable, match="another gateway runs as 'a' in the group"):
            member.source.group_metadata()
    finally:
        other.close()


def test_a_name_that_nobody_holds_any_more_is_taken_again(member):
    assert static_member(member.bootstrap, f"{member.group}-none", "a") is None
    member.send(2)
    eventually(lambda: member.poll() == {0: [0], 1: [0]}, 20)
    # As after a session's end at the broker.
    member.source._membership._group = f"{member.group}-none"
    member.is_fenced()
    member.send(2)
    eventually(lambda: member.poll() == {0: [0, 1], 1: [0, 1]}, 20)


def test_who_is_fenced_while_there_is_no_room_lets_go_of_what_is_in_flight(member):
    """Else nothing would make room: what is in flight is published by nobody, and only a poll joins anew."""
    member.send(2)
    eventually(lambda: member.poll() == {0: [0], 1: [0]}, 20)
    owned = sorted({p for what, p in member.told.heard if what == "ready"})
    member.is_fenced()
    member.source.hold()
    assert member.told.heard[-1] == ("lost", owned)
    member.send(2)
    eventually(lambda: member.poll() == {0: [0, 1], 1: [0, 1]}, 20)


@pytest.mark.parametrize("what", ["lost", "revoked"])
def test_who_publishes_is_answered_while_the_polling_thread_waits_for_it_in_a_rebalance(member, what):
    """Else each waits for the other, until the gateway ends itself: seen when a broker was killed."""
    member.send(2)
    eventually(lambda: member.poll() == {0: [0], 1: [0]}, 20)
    took = []

    def wait_for_the_publisher(partitions):
        began = time.monotonic()
        asking = threading.Thread(target=lambda: member.source.group_metadata(renew=True), daemon=True)
        asking.start()
        asking.join(15.0)
        took.append((time.monotonic() - began, asking.is_alive()))

    setattr(member.told, what, wait_for_the_publisher)
    # As the client says when its session has timed out, in the same poll as it tells what is lost.
    member.is_fenced()
    told = member.source._on_lost if what == "lost" else member.source._on_revoke

    def rebalanced(consumer, partitions):
        consumer.incremental_assign(partitions)
        told(consumer, partitions)

    member.source._consumer.unsubscribe()
    member.source._consumer.subscribe([member.topic], on_assign=rebalanced)
    eventually(lambda: member.source._consumer.poll(0.1) is None and bool(took), 30)
    assert not took[0][1], "it was never answered"
