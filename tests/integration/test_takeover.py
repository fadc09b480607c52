"""A gateway's producers begin where a killed one of its name has left a transaction open, on a real broker."""

from __future__ import annotations

import itertools
from contextlib import closing

import pytest

from connectors.kafka.client import KafkaException, Producer, TopicPartition
from connectors.kafka.reading import read_to_end, reader
from connectors.kafka.watermarks import Watermarks
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
