"""Limits and resets by offset: as they were, however many there were, and in bounded memory."""

from __future__ import annotations

import pytest

from gateway.control import steering
from gateway.control.steering import SteeringLog, steers
from tests.fakes import limit_set
from trading.encoding import encode
from trading.events import Command


def limits(lot):
    return Command("limits", encode(limit_set(lot=lot).file).decode(), "because", "somebody", 1)


class Topic:
    """What was written, and how often it was read again."""

    def __init__(self, commands):
        self.commands, self.read = commands, []

    def again(self, start, stop):
        self.read.append((start, stop))
        yield from ((k, encode(c)) for k, c in enumerate(self.commands) if start <= k < stop)


def log_of(commands):
    topic = Topic(commands)
    found = SteeringLog(limit_set(), topic.again)
    for offset, command in enumerate(commands):
        if steers(command):
            found.add(offset, command)
    return found, topic


def lots(found):
    return [None if limits is None else limits.of("A").lot for _, limits in found]


def test_what_was_set_is_found_between_two_offsets_in_order():
    found, topic = log_of([limits(1.0), Command("reset", "drawdown", "x", "y", 1), limits(2.0), limits(3.0)])
    assert lots(found.between(0, 4)) == [1.0, None, 2.0, 3.0]
    assert lots(found.between(2, 3)) == [2.0]
    assert found.between(4, 9) == []
    assert topic.read == []


def test_what_is_too_much_to_hold_is_read_again(monkeypatch):
    commands = [limits(float(k)) for k in range(1, 40)]
    monkeypatch.setattr(steering, "HELD_BYTES", 5 * len(commands[0].value))
    monkeypatch.setattr(steering, "HELD_RESOLVED", 4)
    found, topic = log_of(commands)
    assert lots(found.between(0, 39)) == [float(k) for k in range(1, 40)]
    assert topic.read
    assert all(start == 0 for start, _ in topic.read)
    topic.read.clear()
    assert lots(found.between(37, 39)) == [38.0, 39.0]
    assert topic.read == []
    assert len(found._held) <= 5
    assert len(found._resolved) <= 4


@pytest.mark.parametrize("text", ["rubbish", '{"surprise":1}', '{"symbols":{"BTC":{"lot":-1}}}'])
def test_limits_that_are_not_understood_hold_for_nobody(text):
    bad = Command("limits", text, "because", "somebody", 1)
    found, _ = log_of([limits(1.0), bad, limits(2.0)])
    assert lots(found.between(0, 3)) == [1.0, None, 2.0]
    assert isinstance(found.resolve(1, bad), str)


def test_only_what_a_book_knows_is_reset():
    found, _ = log_of([Command("reset", "nonsense", "x", "y", 1), Command("drain", "", "x", "y", 1)])
    assert found.between(0, 2) == []
