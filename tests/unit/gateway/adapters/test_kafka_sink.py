"""Messages go over in order, wait for room, and never leave a hole."""

from __future__ import annotations

import pytest

from connectors.kafka.client import KafkaError, KafkaException
from gateway.adapters.kafka_sink import by_stream, produce_all
from gateway.ports import Stream


class BoundedProducer:
    """Takes `room` messages a call; `refuse` are places that it refuses though there is room."""

    def __init__(self, room, refuse=(), code=KafkaError._QUEUE_FULL):
        self.room, self.refuse, self.code = room, set(refuse), code
        self.taken, self.seen = [], 0

    def produce_batch(self, topic, messages, partition, **options):
        taken = 0
        for message in messages:
            number, self.seen = self.seen, self.seen + 1
            if taken == self.room or number in self.refuse:
                message["_error"] = KafkaError(self.code)
            else:
                self.taken.append((topic, partition, message["value"], options.get("on_delivery")))
                taken += 1
        return taken


def messages(count):
    return [{"key": b"k", "value": b"%d" % k} for k in range(count)]


def test_a_full_queue_is_waited_for_and_order_is_kept():
    producer, waits = BoundedProducer(room=3), []
    produce_all(producer, "t", 2, messages(8), lambda: waits.append(1), report := object())
    assert producer.taken == [("t", 2, b"%d" % k, report) for k in range(8)]
    assert len(waits) == 2


def test_a_hole_ends_it():
    with pytest.raises(KafkaException):
        produce_all(BoundedProducer(room=9, refuse=[1]), "t", 0, messages(3), lambda: None)


def test_what_is_refused_for_good_is_an_error():
    producer = BoundedProducer(room=9, refuse=[2], code=KafkaError.MSG_SIZE_TOO_LARGE)
    with pytest.raises(KafkaException, match="MSG_SIZE_TOO_LARGE"):
        produce_all(producer, "t", 0, messages(3), lambda: None)


def test_each_stream_keeps_its_order():
    records = [
        (Stream.DECISIONS, b"A", b"1"), (Stream.DEAD_LETTERS, None, b"x"), (Stream.DECISIONS, b"B", b"2"),
    ]  # fmt: skip
    assert by_stream(records) == {
        Stream.DECISIONS: [{"key": b"A", "value": b"1"}, {"key": b"B", "value": b"2"}],
        Stream.DEAD_LETTERS: [{"key": None, "value": b"x"}],
    }
