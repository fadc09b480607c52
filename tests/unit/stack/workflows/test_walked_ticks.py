"""Ticks that lie in a log now, held against what is on record of each."""

from __future__ import annotations

import pytest

from services.forensics.ports import LogName
from services.forensics.store.reading import LogRow
from stack.workflows.walked_ticks import Walked, walk
from tests.unit.gateway.test_pipeline import quotes
from trading.dead_letters import dead_letter
from trading.encoding import encode
from trading.errors import ConfigurationError
from trading.state.log import LoggedMessage

TOPIC = "market.ticks"
LOGS = {
    kind: LogRow(number, LogName(f"id-{kind}", 0, f"topic.{kind}"), kind)
    for number, kind in enumerate(("decisions", "dead_letters"))
}
TICKS = [encode(tick) for tick in quotes(12)]


class Rows:
    """What a trail has of two logs."""

    def __init__(self, decided, letters):
        self._held = {
            "decisions": [b'{"decision_id":"%s-0-%d","x":1}' % (TOPIC.encode(), offset) for offset in decided],
            "dead_letters": [encode(letter) for letter in letters],
        }

    def rows(self, kind, log, first):
        assert LOGS[kind].id == log
        for offset, value in enumerate(self._held[kind]):
            if offset >= first:
                yield (log, offset, offset, None, 1, 0, None, value, None, b"", None)


class Log:
    """Messages by their offsets, some at a time."""

    def __init__(self, payloads):
        self._held = dict(payloads)

    def bounds(self, partition):
        assert partition == 0
        return min(self._held, default=0), max(self._held, default=-1) + 1

    def read(self, partition, start, stop):
        assert partition == 0
        found = [
            LoggedMessage(o, 0, None, p, None, 4 * 10**18)
            for o, p in sorted(self._held.items())
            if start <= o < stop
        ]
        for begin in range(0, len(found), 4):
            yield found[begin : begin + 4]


def walked(payloads, decided, letters=()):
    return walk(Rows(decided, letters), Log(payloads), LOGS, (TOPIC, 0))


def held(*offsets):
    return {offset: TICKS[offset] for offset in offsets}


def buried(offset, payload):
    return dead_letter(TOPIC, 0, offset, "it is none", None, payload)


def test_all_that_was_decided_is_there_and_what_waits_for_its_turn_may_be():
    assert walked(held(*range(10)), range(10)) == Walked(10, 10)
    assert walked(held(*range(10)), range(7)) == Walked(7, 7)
    assert walked({}, []) == Walked(0, 0)
    assert walked(held(3, 4, 9), [3, 4, 9]) == Walked(3, 10)


@pytest.mark.parametrize("gone", [0, 4, 7])
def test_a_tick_that_was_decided_and_is_not_there_is_named(gone):
    kept = held(*(offset for offset in range(10) if offset != gone))
    with pytest.raises(ConfigurationError, match=f"lacks .*ticks that were decided, the first at offset {gone}"):
        walked(kept, range(10))


def test_a_log_that_ends_before_what_was_decided_is_refused():
    with pytest.raises(
        ConfigurationError, match="ends at 6: it lacks ticks that were decided, the first at offset 6"
    ):
        walked(held(*range(6)), range(10))


@pytest.mark.parametrize("place", [0, 5, 8])
def test_a_tick_where_nothing_was_decided_would_make_another_book(place):
    decided = [offset for offset in range(10) if offset != place]
    with pytest.raises(ConfigurationError, match=f"has a tick at offset {place}, where nothing was decided"):
        walked(held(*range(10)), decided)
    # A mark of a transaction, or what is no tick, makes none.
    assert walked(held(*decided), decided) == Walked(9, 10)
    assert walked(held(*decided) | {place: b"no tick"}, decided) == Walked(9, 10)


def test_what_was_buried_is_what_lies_there():
    decided, letters = [0, 1, 3, 4], [buried(2, b"no tick"), dead_letter("other.ticks", 0, 3, "x", None, b"y")]
    kept = held(*decided)
    assert walked(kept | {2: b"no tick"}, decided, letters) == Walked(4, 5)
    for other in (TICKS[2], b"something else", b"no tick "):
        with pytest.raises(ConfigurationError, match="has another message at offset 2 than was buried there"):
            walked(kept | {2: other}, decided, letters)
    # Of a symbol that this desk does not decide a good tick is buried too.
    assert walked(held(*range(5)), decided, [buried(2, TICKS[2])]) == Walked(4, 5)
