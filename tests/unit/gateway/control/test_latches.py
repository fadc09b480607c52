"""A latched state becomes less severe by a human's word alone; limits are heard whole or not at all."""

from __future__ import annotations

import msgspec
import pytest

from gateway.control.topic import ControlListener, folded, limits_of, to_state
from tests.fakes import limit_set
from trading.events import Command
from trading.risk.trading_state import TradingState, latched_after

ACTIVE, REDUCING, HALTED, KILLED = TradingState


def said(*states):
    found = None
    for k, state in enumerate(states):
        found = folded(found, to_state(Command("trading_state", state, f"reason {k}", "somebody", k)))
    return found


@pytest.mark.parametrize(
    ("states", "holds", "reason"),
    [
        ((KILLED, REDUCING), KILLED, "reason 0"),
        ((KILLED, HALTED, REDUCING), KILLED, "reason 0"),
        ((REDUCING, KILLED), KILLED, "reason 1"),
        ((KILLED, ACTIVE), ACTIVE, "reason 1"),
        ((KILLED, ACTIVE, REDUCING), REDUCING, "reason 2"),
        ((HALTED, HALTED), HALTED, "reason 1"),
        (("nonsense",), HALTED, "reason 0"),
    ],
)
def test_only_a_resume_ends_a_stop(states, holds, reason):
    found = said(*states)
    assert (found.state, found.reason) == (holds, reason)


def test_the_first_word_counts_whatever_it_is():
    assert [latched_after(None, state) for state in TradingState] == list(TradingState)


@pytest.mark.parametrize(
    "content",
    [
        "rubbish", '{"symbols":{"BTC":{"lot":-1}}}', '{"session":{"timezone":"No/Such"}}',
        '{"session":{"timezone":"America"}}', '{"defaults":{"max_leverage":"much"}}',
    ],
)  # fmt: skip
def test_limits_that_could_not_be_used_are_refused_as_a_whole_when_they_are_heard(content):
    listener = ControlListener.__new__(ControlListener)
    listener._base, listener._steering = limit_set(), []
    listener._steer(7, Command("limits", content, "x", "somebody", 1))
    assert listener.between(0, 100) == []
    good = Command("limits", msgspec.json.encode(limit_set(lot=1.0).file).decode(), "x", "somebody", 1)
    assert limits_of(good) is not None
    listener._steer(8, good)
    ((command, limits),) = listener.between(0, 100)
    assert (command, limits.of("A").lot) == (good, 1.0)
    assert listener.between(0, 8) == listener.between(9, 100) == []
    listener._steer(9, Command("reset", "nonsense", "x", "somebody", 1))
    assert len(listener.between(0, 100)) == 1
