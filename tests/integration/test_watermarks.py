"""Where partitions begin and end, asked of a real broker over connections that are kept, and dropped in time."""

from __future__ import annotations

import threading
import time

import pytest

from connectors.kafka.client import Consumer, Producer, TopicPartition
from connectors.kafka.reading import reader
from connectors.kafka.topics import TOPICS
from connectors.kafka.watermarks import Watermarks, offset_at
from stack.servers.kafka import create_topics
from tests.waiting import eventually
from trading.errors import ServiceUnavailable


@pytest.fixture
def topic(stack):
    name = f"watermarks-{time.time_ns()}"
    create_topics(stack, {name: TOPICS.ticks})
    producer = Producer({"bootstrap.servers": stack.kafka_bootstrap})
    for number in range(5):
        producer.produce(name, str(number).encode(), partition=0)
    assert producer.flush(10.0) == 0
    return name


class Counted(Watermarks):
    """Counts the clients that are made."""

    def __init__(self, *given, **named):
        super().__init__(*given, **named)
        self.made = []

    def _open(self, isolation, topic):
        self.made.append(isolation)
        super()._open(isolation, topic)


def test_a_client_is_kept_while_it_is_asked_and_no_longer(stack, topic):
    group = f"group-{topic}"
    watermarks = Counted(stack.kafka_bootstrap, group, kept_s=1.0)
    watermarks.prepare(topic)
    try:
        eventually(lambda: len(watermarks.made) == 2)
        assert watermarks.bounds(topic, 0) == (0, 5)
        assert watermarks.bounds(topic, 1) == (0, 0)
        assert watermarks.committed(topic, 0, 10.0) == (-1, "")
        commit(stack, group, TopicPartition(topic, 0, 3, metadata="which log"))
        assert watermarks.committed(topic, 0, 10.0) == (3, "which log")
        watermarks.wait_until_settled(topic, 0, 10.0)
        assert sorted(watermarks.made) == ["read_committed", "read_uncommitted"]
        # Nobody asks: both are closed, and whoever asks then has a new one.
        eventually(lambda: not watermarks._clients)
        assert watermarks.bounds(topic, 0) == (0, 5)
        assert len(watermarks.made) == 3
    finally:
        watermarks.close()
    assert not watermarks._clients


def test_a_kept_client_that_does_not_answer_is_replaced(stack, topic):
    watermarks = Counted(stack.kafka_bootstrap)
    try:
        assert watermarks.bounds(topic, 0) == (0, 5)
        # As after a broker that came back elsewhere: this one looks for its own where nobody is.
        watermarks._clients["read_committed"].consumer = reader("127.0.0.1:1")
        assert watermarks.bounds(topic, 0) == (0, 5)
        assert len(watermarks.made) == 2
    finally:
        watermarks.close()


def test_a_transaction_that_stays_open_is_told_and_one_that_ends_is_waited_for(stack, topic):
    producer = Producer({"bootstrap.servers": stack.kafka_bootstrap, "transactional.id": topic})
    producer.init_transactions(10.0)
    producer.begin_transaction()
    producer.produce(topic, b"open", partition=0)
    producer.flush(10.0)
    watermarks = Watermarks(stack.kafka_bootstrap)
    try:
        with pytest.raises(ServiceUnavailable, match="is open"):
            watermarks.wait_until_settled(topic, 0, 0.5)
        watermarks.wait_until_settled(topic, 1, 0.5)
        ending = threading.Timer(0.5, producer.commit_transaction, [10.0])
        ending.start()
        watermarks.wait_until_settled(topic, 0, 20.0)
        # Behind the record lies the mark that it is committed.
        assert watermarks.bounds(topic, 0) == (0, 7)
        ending.join()
    finally:
        watermarks.close()


def test_what_a_broker_does_not_have_is_a_sentence_and_later_questions_are_answered(stack, topic):
    watermarks = Watermarks(stack.kafka_bootstrap)
    try:
        with pytest.raises(ServiceUnavailable, match="no topic nowhere"):
            watermarks.bounds("nowhere", 0)
        assert watermarks.bounds(topic, 0) == (0, 5)
    finally:
        watermarks.close()
    assert offset_at(stack.kafka_bootstrap, topic, 0, 0) == 0
    assert offset_at(stack.kafka_bootstrap, topic, 0, int((time.time() + 3600) * 1e3)) == 5


def test_whoever_asks_one_that_is_closed_is_told_and_leaves_nothing_open(stack, topic):
    watermarks = Counted(stack.kafka_bootstrap)
    assert watermarks.bounds(topic, 0) == (0, 5)
    watermarks.close()
    with pytest.raises(ServiceUnavailable, match="is closed"):
        watermarks.bounds(topic, 0)
    with pytest.raises(ServiceUnavailable, match="is closed"):
        watermarks.committed(topic, 0, 1.0)
    watermarks.prepare(topic)
    assert len(watermarks.made) == 1
    assert not watermarks._clients


def test_what_connects_while_it_is_closed_is_closed_by_whoever_connected_it(stack, topic):
    connecting, going_on = threading.Event(), threading.Event()

    class Slow(Watermarks):
        def _open(self, isolation, topic):
            connecting.set()
            going_on.wait(10.0)
            super()._open(isolation, topic)
            made.append(self._clients[isolation].consumer)

    made = []
    watermarks = Slow(stack.kafka_bootstrap)
    watermarks.prepare(topic)
    assert connecting.wait(10.0)
    watermarks.close()  # it does not wait for ever
    going_on.set()
    eventually(lambda: made and not watermarks._clients)
    with pytest.raises(RuntimeError, match="closed"):
        made[0].poll(0)


def commit(stack, group, place):
    consumer = Consumer({"bootstrap.servers": stack.kafka_bootstrap, "group.id": group})
    consumer.commit(offsets=[place], asynchronous=False)
    consumer.close()
