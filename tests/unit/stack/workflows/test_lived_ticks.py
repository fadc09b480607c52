"""A replay's ticks of two places: where they do not meet, nothing is passed over in silence."""

from __future__ import annotations

import pytest

from stack.workflows.lived_ticks import LivedTicks
from tests.unit.services.data.fakes import FakeTickLog, messages_of, some_ticks
from tests.unit.services.data.market.test_following import Desk
from trading.errors import ConfigurationError


class FakeKafka:
    """Holds the messages from an offset on; `later` is where it begins when it is asked again."""

    def __init__(self, messages, first):
        self.messages, self.first, self.later = messages, first, None

    def partitions(self):
        return 1

    def bounds(self, partition):
        first, self.first = self.first, self.later if self.later is not None else self.first
        return first, len(self.messages)

    def read(self, partition, start, stop):
        yield self.messages[start:stop]


@pytest.fixture
def archived(tmp_path):
    """400 ticks, of which the first 300 are archived."""
    messages = messages_of(some_ticks(400))
    desk = Desk(tmp_path, FakeTickLog({0: messages[:300]}))
    desk.read_all()
    desk.follower.end()
    return tmp_path, messages


def offsets(ticks, start, stop):
    return [m.offset for chunk in ticks.read(0, start, stop) for m in chunk]


def test_the_archive_is_read_up_to_where_kafka_begins(archived):
    folder, messages = archived
    ticks = LivedTicks(FakeKafka(messages, 250), folder)
    assert ticks.bounds(0) == (0, 400)
    assert offsets(ticks, 10, 390) == list(range(10, 390))
    assert offsets(ticks, 260, 390) == list(range(260, 390))


def test_what_kafka_deletes_meanwhile_is_read_from_the_archive(archived):
    folder, messages = archived
    kafka = FakeKafka(messages, 200)
    kafka.later = 280
    assert offsets(LivedTicks(kafka, folder), 0, 400) == list(range(400))


def test_a_gap_between_the_two_is_refused(archived):
    folder, messages = archived
    ticks = LivedTicks(FakeKafka(messages, 350), folder)
    assert ticks.bounds(0) == (350, 400)
    with pytest.raises(ConfigurationError, match="without a gap"):
        offsets(ticks, 0, 400)


def test_an_archive_that_lost_ticks_is_not_joined(tmp_path):
    messages = messages_of(some_ticks(300))
    log = FakeTickLog({0: messages[100:]})
    log.first = {0: 100}
    desk = Desk(tmp_path, log)
    desk.read_all()
    desk.follower.end()
    assert LivedTicks(FakeKafka(messages, 200), tmp_path).bounds(0) == (200, 300)
