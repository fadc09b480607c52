"""A gateway's producers begin where a killed one of its name has left a transaction open, on a real broker."""

from __future__ import annotations

import itertools
from contextlib import closing

import pytest

from connectors.kafka.client import KafkaException, Producer, TopicPartition
from connectors.kafka.reading import read_to_end, reader
from connectors.kafka.watermarks import Watermarks
from gateway.adapters.kafka_recovery import KafkaPartitionLog, LogPlace
from gateway.adapters.kafka_transactions import TURNS, TransactionalSink
from gateway.ports import PartitionOutbox, Stream
from stack.processes.gateway import SeriesTopics
from stack.servers.kafka import create_topics

NUMBERS = itertools.count()


@pytest.fixture
def desk(stack):
    name = f"takeover-{next(NUMBERS)}"
    series = SeriesTopics(name, ticks=f"{name}.ticks")
    create_topics(stack, series.names)
    return stack.kafka_bootstrap, name, series.topics


def leave_open(bootstrap, group, topic):
    """What a gateway that is killed leaves behind, in each turn."""
    left = []
    for turn in range(TURNS):
        producer = Producer({"bootstrap.servers": bootstrap, "transactional.id": f"{group}.a.{turn}"})
        producer.init_transactions(10.0)
        producer.begin_transaction()
        producer.produce(topic, b"never to be seen", partition=0)
        producer.flush(10.0)
        left.append(producer)
    return left


def test_what_a_killed_one_left_open_is_ended_and_its_successor_publishes_in_every_turn(desk):
    bootstrap, group, topics = desk
    left = leave_open(bootstrap, group, topics.decisions)
    consumer = reader(bootstrap, group)
    consumer.assign([TopicPartition(topics.ticks, 0, 0)])
    sink = TransactionalSink(bootstrap, topics, group, "a", "log", lambda _: consumer.consumer_group_metadata())
    sink.begin(0, 0, 0)
    for number in range(2 * TURNS):
        sink.publish({0: PartitionOutbox([(Stream.DECISIONS, b"k", b"%d" % number)], number + 1)}, lambda _: True)
    assert sink.safe(0) == 2 * TURNS
    with closing(Watermarks(bootstrap, group)) as watermarks:
        assert watermarks.committed(topics.ticks, 0, 10.0) == (2 * TURNS, "log")
    seen = [m.value() for chunk in read_to_end(bootstrap, topics.decisions, 0, 0) for m in chunk]
    assert seen == [b"%d" % number for number in range(2 * TURNS)]
    # The killed one, were it alive after all, is fenced.
    for producer in left:
        with pytest.raises(KafkaException, match="fenced|epoch"):
            producer.commit_transaction(10.0)
    consumer.close()


DECISION, LETTER, SNAPSHOT = (
    (Stream.DECISIONS, b"k", b"decided"), (Stream.DEAD_LETTERS, None, b"a letter"), (Stream.SNAPSHOTS, b"k", b"kept"),
)  # fmt: skip


@pytest.fixture
def sink(desk):
    bootstrap, group, topics = desk
    consumer = reader(bootstrap, group)
    consumer.assign([TopicPartition(topics.ticks, 0, 0)])
    made = TransactionalSink(bootstrap, topics, group, "a", "log", lambda _: consumer.consumer_group_metadata())
    made.begin(0, 0, 0)
    yield made
    consumer.close()


@pytest.mark.parametrize(("records", "told"), [([DECISION, LETTER], True), ([LETTER], True), ([SNAPSHOT], False)])
def test_whether_it_was_committed_is_told_by_what_can_be_read_and_not_by_the_groups_offsets(
    desk, sink, records, told
):
    bootstrap, group, topics = desk
    parts = {0: PartitionOutbox(records, 7)}
    since = sink._since(parts)
    assert not sink._is_committed(parts, since)
    sink.publish(parts, lambda _: True)
    # What a group's coordinator may answer after its broker was killed.
    rewound = reader(bootstrap, group)
    rewound.commit(offsets=[TopicPartition(topics.ticks, 0, 1, metadata="log")], asynchronous=False)
    rewound.close()
    assert sink._is_committed(parts, since) is told
    # The same bytes once more are not those of the transaction before.
    assert not sink._is_committed(parts, sink._since(parts))


@pytest.mark.slow
def test_a_partition_is_rebuilt_though_the_groups_coordinator_takes_an_ended_transaction_for_open(desk, sink):
    bootstrap, group, topics = desk
    sink.publish({0: PartitionOutbox([DECISION], 1)}, lambda _: True)
    consumer = reader(bootstrap, group)
    consumer.assign([TopicPartition(topics.ticks, 0, 0)])
    lost = Producer({"bootstrap.servers": bootstrap, "transactional.id": f"{group}.lost"})
    lost.init_transactions(10.0)
    lost.begin_transaction()
    place = TopicPartition(topics.ticks, 0, 2, metadata="log")
    lost.send_offsets_to_transaction([place], consumer.consumer_group_metadata(), 10.0)
    with closing(Watermarks(bootstrap, group)) as watermarks:
        log = KafkaPartitionLog(LogPlace(bootstrap, "c", group, topics, "log"), 0, None, None, watermarks)
        committed = log.committed()
    assert (committed.offset, committed.log) == (1, "log")
    lost.abort_transaction(10.0)
    consumer.close()
