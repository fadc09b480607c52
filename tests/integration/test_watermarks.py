"""Where partitions begin and end, asked of a real broker over connections that are kept, and dropped in time."""

from __future__ import annotations

import time

import pytest

from connectors.kafka.client import Consumer, Producer, TopicPartition
from connectors.kafka.topics import TOPICS
from connectors.kafka.watermarks import Watermarks, offset_at
from stack.servers.kafka import create_topics
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


@pytest.mark.parametrize("kept_s", [0.0, 5.0])
def test_ends_and_commits_are_told_whether_a_client_is_kept_or_not(stack, topic, kept_s):
    group = f"group-{topic}"
    watermarks = Watermarks(stack.kafka_bootstrap, group, kept_s)
    watermarks.prepare(topic)
    try:
        assert watermarks.bounds(topic, 0) == (0, 5)
        assert watermarks.bounds(topic, 1) == (0, 0)
        assert watermarks.committed(topic, 0, 10.0) == (-1, "")
        commit(stack, group, TopicPartition(topic, 0, 3, metadata="which log"))
        assert watermarks.committed(topic, 0, 10.0) == (3, "which log")
        watermarks.wait_until_settled(topic, 0, 10.0)
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
        producer.commit_transaction(10.0)
        watermarks.wait_until_settled(topic, 0, 10.0)
        # Behind the record lies the mark that it is committed.
        assert watermarks.bounds(topic, 0) == (0, 7)
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


def commit(stack, group, place):
    consumer = Consumer({"bootstrap.servers": stack.kafka_bootstrap, "group.id": group})
    consumer.commit(offsets=[place], asynchronous=False)
    consumer.close()
