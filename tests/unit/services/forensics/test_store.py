"""A row of the archive: columns to search by, and every byte as evidence."""

from __future__ import annotations

import pytest

from services.forensics.store import row, to_time
from tests.unit.gateway.test_pipeline import Bench, quotes
from trading.encoding import encode
from trading.errors import BadRecord


def test_a_row_has_the_decisions_own_times_and_every_byte():
    decision = Bench([quotes(1)]).run()[0]
    payload = encode(decision)
    found = row(payload)
    assert found[0] == decision.decision_id
    assert found[1:3] == (to_time(decision.event_time_ns), to_time(decision.decided_at_ns))
    assert found[-1] == payload.decode()


def test_times_keep_microseconds_and_their_zone():
    assert to_time(1_704_067_200_123_456_789).isoformat() == "2024-01-01T00:00:00.123456+00:00"


def test_bytes_that_are_no_text_in_a_field_that_nobody_reads_are_no_row():
    payload = encode(Bench([quotes(1)]).run()[0])
    with pytest.raises(BadRecord):
        row(payload[:-1] + b',"x":"\xff"}')


@pytest.mark.parametrize("payload", [b"", b"{}", b"rubbish", b"\xff"])
def test_what_is_no_decision_is_no_row(payload):
    with pytest.raises(BadRecord):
        row(payload)
