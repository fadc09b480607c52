"""The paper broker's loop: what it takes, and what it commits."""

from __future__ import annotations

from collections import deque

import pytest

from connectors.kafka.client import KafkaError, KafkaException, TopicPartition
from connectors.kafka.offsets import OffsetTracker
from services.paper_broker.broker import FillModel, PaperAnswers
from services.paper_broker.exchange import PaperExchange
from services.paper_broker.observing import Metrics
from services.paper_broker.stops import Stops
from trading.encoding import encode
from trading.errors import ServiceUnavailable
from trading.events import NewOrder


class FakeMessage:
    """An order as it is consumed."""

    def __init__(self, partition, offset, order):
        self._place, self._order = (partition, offset), order

    def error(self):
        return None

    def partition(self):
        return self._place[0]

    def offset(self):
        return self._place[1]

    def value(self):
        return encode(self._order)


class FakeConsumer:
    """Polls what it is given; something may happen before more is consumed, and a commit may fail."""

    def __init__(self):
        self.polled, self.committed = deque(), []
        self.between, self.failure = lambda: None, None

    def poll(self, timeout_s):
        return self.polled.popleft() if self.polled else None

    def consume(self, count, timeout_s):
        self.between()
        return []

    def commit(self, offsets, asynchronous):
        if self.failure is not None:
            raise KafkaException(KafkaError(self.failure))
        self.committed += [(place.partition, place.offset) for place in offsets]


class OnFakes(PaperExchange):
    """Without a broker."""

    def __init__(self):
        self._orders, self._consumer, self._tracker = "orders", FakeConsumer(), OffsetTracker()
        self._answered, self._working, self._due = {}, {}, []
        self._stops, self._answers = Stops(), PaperAnswers(FillModel(reject_share=0.0))
        self._mine, self._count, self.bad, self._observer = {3}, 0, 0, Metrics()
        self._is_closing = False


class Leaving:
    """A consumer that is being closed, or whose coordinator is away."""

    def committed(self, partitions, timeout_s):
        raise KafkaException(KafkaError(KafkaError._DESTROY))


def test_partitions_that_come_as_it_leaves_are_the_next_ones():
    broker = OnFakes()
    broker._is_closing = True
    broker._learn(Leaving(), [TopicPartition("orders", 5)])
    assert broker._mine == {3}


def test_a_coordinator_that_does_not_say_where_to_go_on_is_no_traceback():
    with pytest.raises(ServiceUnavailable, match="orders cannot be read on"):
        OnFakes()._learn(Leaving(), [TopicPartition("orders", 5)])


def order(number):
    return NewOrder(f"ticks-3-{number}", number, "A", 5.0, 100.0, 0, 2**60, "desk", "", expires_ns=2**62)


def test_an_order_of_a_partition_that_leaves_as_it_is_polled_is_its_successors():
    broker = OnFakes()
    broker._consumer.polled.append(FakeMessage(3, 7, order(7)))
    broker._consumer.between = lambda: broker._forget(None, [TopicPartition("orders", 3)])
    broker._take_orders()
    assert (broker._working, broker._due) == ({}, [])
    broker._commit()
    assert broker._consumer.committed == []


def test_an_order_of_ours_is_taken():
    broker = OnFakes()
    broker._consumer.polled.append(FakeMessage(3, 7, order(7)))
    broker._take_orders()
    assert list(broker._working) == ["ticks-3-7"]


@pytest.mark.parametrize(
    ("code", "ends"),
    [
        (KafkaError.UNKNOWN_MEMBER_ID, False),
        (KafkaError.REBALANCE_IN_PROGRESS, False),
        (KafkaError.ILLEGAL_GENERATION, False),
        (KafkaError.GROUP_AUTHORIZATION_FAILED, True),
    ],
)
def test_a_commit_that_a_rebalance_overtakes_is_no_end(code, ends):
    broker = OnFakes()
    broker._tracker.sent(3, 8, 0)
    broker._consumer.failure = code
    if ends:
        with pytest.raises((KafkaException, ServiceUnavailable)):
            broker._commit()
    else:
        broker._commit()
