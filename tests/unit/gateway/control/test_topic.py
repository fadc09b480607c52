"""Only what reduces a desk may be written twice."""

from __future__ import annotations

import pytest

from connectors.kafka.writing import producing
from gateway.control.topic import is_stop, told
from trading.risk.trading_state import TradingState


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        *[("trading_state", state.value, state is not TradingState.ACTIVE) for state in TradingState],
        ("limits", "{}", False),
        ("reset", "losses", False),
        ("drain", "", False),
    ],
)
def test_a_stop_is_what_only_reduces(kind, value, expected):
    command = told(kind, value, "why", "who")
    assert is_stop(command) is expected


def test_who_writes_once_waits_for_a_number_and_all_wait_for_every_broker():
    assert producing(once=True)["enable.idempotence"] is True
    assert producing(once=False) == {**producing(once=True), "enable.idempotence": False}
    assert producing(once=False)["acks"] == "all"
