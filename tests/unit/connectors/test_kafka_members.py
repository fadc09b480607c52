"""A member is woken without waiting, and leaves when nobody asks anything of it."""

from __future__ import annotations

import threading
import time

from connectors.kafka.client import KafkaError, KafkaException, TopicPartition
from connectors.kafka.reading import leave, wake


class Member:
    """Answers, or does not; notes what it is asked, and when it is closed."""

    def __init__(self, answers=True):
        self.answers, self.asked, self.closed = answers, [], threading.Event()

    def get_watermark_offsets(self, place, timeout):
        self.asked.append((place.partition, timeout >= 5.0))
        if not self.answers:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "gone"))
        return 0, 1

    def close(self):
        self.closed.set()


PLACES = [TopicPartition("t", 0), TopicPartition("t", 1)]


def test_every_leader_is_asked_and_given_its_time():
    member = Member()
    wake(member, PLACES)
    assert member.asked == [(0, True), (1, True)]


def test_after_a_leader_that_does_not_answer_no_other_is_asked():
    member = Member(answers=False)
    wake(member, PLACES)
    assert member.asked == [(0, True)]


def test_a_member_that_is_still_asked_is_not_closed_and_holds_nobody_up():
    answer, member = threading.Event(), Member()
    asking = threading.Thread(target=answer.wait, daemon=True)
    asking.start()
    began = time.monotonic()
    leave(member, [asking], 0.05)
    assert time.monotonic() - began < 30
    assert not member.closed.is_set()
    answer.set()
    leave(member, [asking])
    assert member.closed.is_set()
