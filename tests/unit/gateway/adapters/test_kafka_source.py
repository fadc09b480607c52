"""What the client library delivers twice is read once."""

from __future__ import annotations

from gateway.adapters.kafka_source import unread


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
