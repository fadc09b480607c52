"""What the client library delivers twice is read once."""

from __future__ import annotations

from functools import partial

import pytest

from connectors.kafka.client import TopicPartition
from connectors.logs import kafka_logger
from gateway.adapters.kafka_source import KafkaTickSource, unread
from tests.fakes import FakeAssignment
from trading.errors import ServiceUnavailable


class Message:
    def __init__(self, offset):
        self._offset = offset

    def offset(self):
        return self._offset


def offsets(found):
    return [m.offset() for m in found]


def test_messages_before_the_wanted_offset_are_left_out():
    wanted = {2: 5}
    assert offsets(unread([Message(k) for k in range(3, 8)], wanted, 2)) == [5, 6, 7]
    assert wanted == {2: 8}


def test_what_comes_again_is_not_read_again():
    wanted = {2: 0, 3: 0}
    first = [Message(k) for k in range(4)]
    assert offsets(unread(first, wanted, 2)) == [0, 1, 2, 3]
    assert unread(first, wanted, 2) == []
    assert offsets(unread([*first, *first, Message(1)], wanted, 3)) == [0, 1, 2, 3]
    assert offsets(unread([*first, Message(4), Message(9)], wanted, 2)) == [4, 9]
    assert wanted == {2: 10, 3: 4}


class Member:
    """A member of the group that was replaced."""

    def incremental_assign(self, partitions):
        raise AssertionError("it must not be given anything")

    def incremental_unassign(self, partitions):
        raise AssertionError("it is ended by another thread")

    def consumer_group_metadata(self):
        raise AssertionError("it is nobody in the group any more")


def test_what_the_client_only_logs_ends_the_gateway():
    """A member that cannot go on, while nothing came: its polls bring nothing, for ever."""
    source = KafkaTickSource("127.0.0.1:1", "g", "one", "t", "log", lambda _: None, FakeAssignment())
    try:
        logger = kafka_logger(fatal=partial(source._membership._note, source._membership._members))
        logger.warning("FAIL [rdkafka#consumer-1]: it passes")
        assert source.poll(1, 0.01) is None
        logger.critical("FATAL [rdkafka#consumer-1]: %s", "Local: out of order")
        for take in (lambda: source.poll(1, 0.01), source.hold, source.group_metadata):
            with pytest.raises(ServiceUnavailable, match="t cannot be read any more: FATAL .*Local: out of order"):
                take()
    finally:
        source.close()


def test_who_is_fenced_and_cannot_learn_by_whom_stops():
    """To join anew would fence another gateway, if it was one."""
    source = KafkaTickSource("127.0.0.1:1", "g", "one", "t", "log", lambda _: None, FakeAssignment())
    try:
        logger = kafka_logger(fatal=partial(source._membership._note, source._membership._members))
        logger.critical("FATAL [rdkafka#consumer-1]: Broker: Static consumer fenced by other consumer")
        with pytest.raises(ServiceUnavailable, match="the consumer group g cannot be described"):
            source.poll(1, 0.01)
    finally:
        source.close()


def test_a_member_that_was_replaced_on_purpose_is_fenced_and_ends_nothing():
    source = KafkaTickSource("127.0.0.1:1", "g", "one", "t", "log", lambda _: None, FakeAssignment())
    try:
        before = kafka_logger(fatal=partial(source._membership._note, source._membership._members))
        source._rejoin_by = 0.0
        source.poll(1, 0.01)  # joins anew
        before.critical("FATAL [rdkafka#consumer-1]: Broker: Static consumer fenced by other consumer")
        assert source.poll(1, 0.01) is None
    finally:
        source.close()


@pytest.mark.parametrize("what", ["_on_assign", "_on_revoke", "_on_lost"])
def test_what_a_replaced_member_tells_moves_nothing(what):
    told = FakeAssignment()
    source = KafkaTickSource("127.0.0.1:1", "g", "one", "t", "log", lambda _: None, told)
    try:
        source._assignments, source._wanted = {2: 1}, {2: 40}
        getattr(source, what)(Member(), [TopicPartition("t", 2)])
        assert (source._assignments, source._wanted, told.heard) == ({2: 1}, {2: 40}, [])
    finally:
        source.close()
