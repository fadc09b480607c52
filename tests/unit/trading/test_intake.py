"""What is a tick, and what is not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trading.encoding import encode
from trading.intake import FIRST_NS, MAX_TICK_BYTES, decode_tick, decode_ticks, in_time
from trading.market import Tick

T = 1_700_000_000_000_000_000
GOOD = b'{"symbol":"BTC","event_time_ns":1700000000000000000,"bid":1.5,"ask":2}'

prices = st.none() | st.floats(1e-9, 1e12, allow_nan=False)


@given(st.from_regex(r"[A-Za-z0-9._:/-]{1,32}", fullmatch=True), st.integers(1, 2**62), prices, prices, prices)
def test_a_tick_survives_the_round_trip(symbol, time_ns, bid, ask, last):
    tick = Tick(symbol, time_ns, bid=bid, ask=ask, last=last)
    assert decode_tick(encode(tick)) == tick


def test_an_unknown_field_is_absent_not_zero():
    assert encode(Tick("A", T, last=1.0)) == b'{"symbol":"A","event_time_ns":1700000000000000000,"last":1.0}'


@pytest.mark.parametrize(
    ("payload", "says"),
    [
        (None, "no payload"),
        (b"", "truncated"),
        (b"hello", "malformed"),
        (b"\xff\xfe{}", "malformed"),
        (b"[1,2]", "Expected `object`"),
        (b'{"symbol":"A"}', "event_time_ns"),
        (b'{"symbol":"","event_time_ns":1}', "length"),
        (b'{"symbol":"a b","event_time_ns":1}', "regex"),
        (b'{"symbol":"AAPL\\n","event_time_ns":1}', "regex"),
        (b'{"symbol":"A","event_time_ns":0}', ">= 1"),
        (b'{"symbol":"A","event_time_ns":9000000000000000000}', "<"),
        (b'{"symbol":"A","event_time_ns":1,"bid":-1}', ">= 1e-09"),
        (b'{"symbol":"A","event_time_ns":1,"bid":0}', ">= 1e-09"),
        (b'{"symbol":"A","event_time_ns":1,"last":1e-310}', ">= 1e-09"),
        (b'{"symbol":"A","event_time_ns":1,"bid":NaN}', "malformed"),
        (b'{"symbol":"A","event_time_ns":1,"bid":1e400}', "out of range"),
        (b'{"symbol":"A","event_time_ns":1,"bid":"1"}', "Expected"),
        (b'{"symbol":"A","event_time_ns":1,"bdi":1}', "unknown field"),
        (b"[" * 4000, "Expected `object`"),
        (b'{"symbol":"A","event_time_ns":1}' + b" " * MAX_TICK_BYTES, "bytes"),
    ],
)
def test_what_is_no_tick_says_why(payload, says):
    reason = decode_tick(payload)
    assert isinstance(reason, str)
    assert says.lower() in reason.lower()
    # In a batch it spoils nothing beside it.
    before, found, after = decode_ticks([GOOD, payload, GOOD])
    assert found == reason
    assert before == after == decode_tick(GOOD)


def test_a_payload_cannot_smuggle_a_second_tick_in():
    two = GOOD + b"," + GOOD
    found = decode_ticks([two, b'{"symbol":"A"', GOOD])
    assert isinstance(found[0], str)
    assert isinstance(found[1], str)
    assert isinstance(found[2], Tick)


@given(st.lists(st.binary(max_size=40) | st.just(GOOD) | st.none(), max_size=8))
def test_a_batch_decodes_as_its_payloads_do_one_by_one(payloads):
    assert decode_ticks(payloads) == [decode_tick(p) for p in payloads]


@pytest.mark.parametrize(
    ("time", "unit"),
    [
        (1_700_000_000, "seconds"),
        (1_700_000_000_000, "milliseconds"),
        (1_700_000_000_000_000, "microseconds"),
        (1, "nanoseconds since 1970"),
        (4_102_444_800, "seconds"),
        (4_102_444_800_000, "milliseconds"),
        (FIRST_NS - 1, "microseconds"),
        (2_000_000_000_000_000, "microseconds"),
    ],
)
def test_a_time_in_another_unit_is_named(time, unit):
    found = in_time(Tick("A", time, last=1.0), T)
    assert isinstance(found, str)
    assert f"event_time_ns {time} lies in January 1970" in found
    assert unit in found


def test_from_february_1970_on_a_time_is_one():
    tick = Tick("A", FIRST_NS, last=1.0)
    assert in_time(tick, T) is tick
