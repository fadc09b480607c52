"""The bytes of a decision: what is read without decoding it is what decoding it gives."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trading.decision import wire
from trading.decision.schema import Action, Decision, Reason, StageTimes
from trading.encoding import encode
from trading.errors import BadRecord
from trading.risk.trading_state import TradingState

topics = st.from_regex(r"[a-z][a-z0-9.-]{0,30}", fullmatch=True)
whole = st.integers(0, 2**62)


def decision(identifier, action=Action.BUY, fills_to=-1, control_to=0, symbol="A"):
    held = action is Action.HOLD
    return Decision(
        identifier, symbol, 17, action, Reason.WITHIN_BAND if held else Reason.TARGET, 0.0 if held else 2.5, 10.0,
        10.5, 0.0, 2.5, 0.5, [1.0], True, [], [], [], "trading_decision", "7", "champion", TradingState.ACTIVE,
        None, StageTimes(1.0, 2.0, 3.0, 4.0), 99, "ab", "v", 5.5,
        fills_to=fills_to, control_to=control_to,
    )  # fmt: skip


@given(topics, st.integers(0, 10_000), whole, st.sampled_from(Action), st.integers(-1, 2**40), whole)
def test_what_is_sniffed_is_what_is_decoded(topic, partition, offset, action, fills_to, control_to):
    identifier = wire.make_id(topic, partition, offset)
    made = decision(identifier, action, fills_to, control_to, symbol='quo"te\\d')
    payload = encode(made)
    assert wire.place(identifier) == wire.place_in(payload) == (partition, offset)
    assert wire.offset_in(payload, wire.id_prefix(topic, partition)) == offset
    assert wire.offset_in(payload, wire.id_prefix(topic, partition + 1)) == -1
    assert wire.offset_in(payload, wire.id_prefix(topic + "x", partition)) == -1
    assert wire.decision_id(payload) == identifier
    assert wire.is_hold(payload) is (action is Action.HOLD)
    assert wire.reason_in(payload).decode() == made.reason
    assert wire.applied_in(wire.applied_tail(payload)) == (fills_to, control_to)
    assert wire.limits_version_in(payload) == b"v"
    assert wire.decode_decision(payload) == made
    order = wire.decode_order(payload)
    assert (order.decision_id, order.quantity, order.variant, order.model_version) == (
        identifier, made.quantity, "champion", "7",
    )  # fmt: skip


def test_the_layout_is_what_the_sniffers_rely_on():
    payload = encode(decision("market.ticks-0-1"))
    assert payload.startswith(wire.HEAD)
    assert payload.index(wire.REASON) < wire.HEAD_BYTES
    fields = Decision.__struct_fields__
    assert fields[0] == "decision_id"
    assert fields[-2:] == ("fills_to", "control_to")


def test_somebody_elses_white_space_is_read_too():
    payload = msgspec.json.format(encode(decision("market.ticks-3-41")))
    assert wire.offset_in(payload, wire.id_prefix("market.ticks", 3)) == 41
    assert wire.decode_decision(payload).decision_id == "market.ticks-3-41"


@pytest.mark.parametrize("payload", [b"", b"{}", b"[1]", b'{"decision_id":7}', b"\xff\xfe"])
def test_what_is_no_decision_is_refused(payload):
    for read in (wire.decode_decision, wire.decode_order, wire.decision_id):
        with pytest.raises(BadRecord):
            read(payload)
    with pytest.raises(BadRecord):
        wire.offset_in(payload, wire.id_prefix("t", 0))
    with pytest.raises(BadRecord):
        wire.applied_in(wire.applied_tail(payload))


def test_ids_of_a_topic_that_ours_begins_are_not_ours_and_what_is_no_id_is_refused():
    prefix = wire.id_prefix("market.ticks", 0)
    assert wire.offset_in(b'{"decision_id":"market.ticks-0-1-5"}', prefix) == -1
    assert wire.offset_in(b'{"decision_id":"market.ticks-0-b-1-5"}', prefix) == -1
    assert wire.offset_in(b'{"decision_id":"other-0-5"}', prefix) == -1
    for rest in (b"x", b"", b"5x", b"-5", b"1-"):
        with pytest.raises(BadRecord, match="no id"):
            wire.offset_in(b'{"decision_id":"market.ticks-0-' + rest + b'"}', prefix)
