"""A latched state becomes less severe by a human's word alone; what is not understood never permits."""

from __future__ import annotations

import msgspec
import pytest

from tests.fakes import limit_set
from trading.control import InForce, folded, read_command, read_limits, to_state
from trading.encoding import encode
from trading.errors import BadRecord, ConfigurationError
from trading.events import Command
from trading.risk.trading_state import LatchedState, TradingState, latched_after

ACTIVE, REDUCING, HALTED, KILLED = TradingState


def command(kind, value, by="somebody"):
    return encode(Command(kind, value, "because", by, 1))


def limits_text(**limits):
    return encode(limit_set(**limits).file).decode()


def after(*payloads):
    found = InForce()
    for offset, payload in enumerate(payloads):
        found.take(offset, payload)
    return found


def said(*states):
    found = None
    for k, state in enumerate(states):
        found = folded(found, LatchedState(to_state(state), f"reason {k}", "somebody", k))
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


BAD = [
    None,
    b"",
    b"rubbish",
    b"\xff\xfe",
    b"[" * 10_000,
    b'{"kind":"limits","value":' + b"[" * 10_000 + b"]" * 10_000 + b"}",
    b"[1]",
    b"{}",
    b'{"kind":7}',
]


@pytest.mark.parametrize("payload", BAD)
def test_what_is_no_command_is_counted_and_changes_nothing(payload):
    found = after(command("trading_state", "halted"), payload, command("trading_state", "active"))
    assert (found.bad, found.state().state) == (1, ACTIVE)


@pytest.mark.parametrize(
    ("payload", "holds"),
    [
        (b'{"kind":"rebalance","value":"x"}', REDUCING),
        (b'{"kind":"rebalance"}', REDUCING),
        (b'{"kind":"drain","value":"","reason":"","by":"","at_ns":' + b"9" * 400 + b"}", REDUCING),
        (command("drain", "")[:-1] + b',"only":"b"}', REDUCING),
        # A stop counts whatever else is said; going on does not.
        (command("trading_state", "killed")[:-1] + b',"account":"a"}', KILLED),
        (command("trading_state", "paused")[:-1] + b',"account":"a"}', HALTED),
        (command("trading_state", "active")[:-1] + b',"account":"a"}', REDUCING),
        # Nor does what else is wrong with it.
        (b'{"kind":"trading_state","value":"killed","reason":null,"by":5,"at_ns":1.5}', KILLED),
        (b'{"kind":"trading_state","value":"killed","reason":"gestoppt \xfcber Nacht","by":"","at_ns":1}', KILLED),
        (b'{"kind":"trading_state","value":null}', HALTED),
        (b'{"kind":"trading_state","value":{"state":"killed"}}', HALTED),
        (b'{"kind":"trading_state","value":"killed","reason":"a \\udcff b","by":"","at_ns":1}', KILLED),
        (b'{"kind":"trading_state","value":"killed","reason":"two\nlines","by":"","at_ns":1}', KILLED),
        (b'\xef\xbb\xbf{"kind":"trading_state","value":"killed","reason":"","by":"","at_ns":1}', KILLED),
        (b'{"kind":"trading_state","value":"killed","at_ns":NaN}', KILLED),
        (b'{"kind":"trading_state","value":"halted","at_ns":' + b"9" * 5000 + b"}", HALTED),
        (b'{"kind" : "trading_state", "value" : "killed", "x":' + b"[" * 10_000 + b"]" * 10_000 + b"}", KILLED),
        (b'{"kind":"trading_state","value":"active","at_ns":NaN}', REDUCING),
        (b'{"kind":"kill_all","value":{"accounts":["a"]}}', REDUCING),
    ],
)
def test_a_command_of_a_newer_version_stops_or_reduces_until_a_human_says_active(payload, holds):
    found = after(command("trading_state", "active"), payload)
    assert (found.state().state, found.bad) == (holds, 0)
    found.take(2, command("trading_state", "active"))
    assert found.state().state is ACTIVE


UNKNOWN = [
    ("rubbish", "malformed"),
    ('{"version":2}', "version 2"),
    ('{"surprise":1}', "surprise"),
    ('{"defaults":{"max_sector_notional":7}}', "max_sector_notional"),
    ('{"accounts":{"other":{"max_sector_notional":7}}}', "max_sector_notional"),
    ('{"symbols":{"BTC":{"lot":-1}}}', "lot"),
    ('{"symbols":{"BTC":{"max_drawdown":0.1}}}', "max_drawdown"),
    ('{"session":{"timezone":"No/Such"}}', "No/Such"),
    ('{"session":{"timezone":"America"}}', "session"),
    ('{"defaults":{"max_leverage":"much"}}', "max_leverage"),
    ("[" * 10_000, ""),
    ('{"defaults":{"max_same_way_executions":' + "9" * 400 + "}}", "max_same_way_executions"),
]


@pytest.mark.parametrize(("text", "names"), UNKNOWN)
def test_limits_that_are_not_understood_reduce_until_others_are_set(text, names):
    with pytest.raises(BadRecord) as told:
        read_limits(text)
    assert names in str(told.value)
    found = after(command("limits", limits_text(lot=1.0)), command("limits", text, by="Ada"))
    with pytest.raises(ConfigurationError, match="offset 1 of the control topic, by Ada"):
        found.limits()
    assert found.state().state is REDUCING
    assert names in found.state().reason
    found.take(2, command("trading_state", "active"))
    assert found.state().state is REDUCING
    found.take(3, command("trading_state", "killed"))
    assert found.state().state is KILLED
    found.take(4, command("limits", limits_text(lot=2.0)))
    assert found.limits()[1].defaults["lot"] == 2.0
    assert found.state().state is KILLED


def test_every_limit_has_a_bound():
    """A number of four hundred digits is refused where it is read, whatever limit it is of."""
    from trading.risk.limits import DECLARED, Limits

    for field in msgspec.structs.fields(Limits):
        if isinstance(field.default, bool | str):
            continue
        for huge in ("9" * 400, "1e308", "-1e308"):
            with pytest.raises(BadRecord):
                read_limits(f'{{"defaults":{{"{field.name}":{huge}}}}}')
        assert field.name in DECLARED


def test_a_command_is_read_as_it_was_written():
    given = Command("reset", "drawdown", "looked", "somebody", 5)
    assert read_command(encode(given)) == given


def test_of_a_log_that_was_made_anew_only_stops_are_taken():
    found = after(command("trading_state", "active"), command("limits", limits_text(lot=1.0)), command("drain", ""))
    assert found.problem == ""
    found.take(1, command("trading_state", "active"))
    assert (found.state().state, found.bad) == (REDUCING, 1)
    assert "recreated or cut short" in found.problem
    found.take(2, command("limits", limits_text(lot=2.0)))
    found.take(9, command("limits", limits_text(lot=3.0)))
    assert found.limits()[1].defaults["lot"] == 1.0
    assert found.state().state is REDUCING
    found.take(10, command("trading_state", "killed"))
    found.take(11, command("trading_state", "active"))
    assert found.state().state is KILLED
