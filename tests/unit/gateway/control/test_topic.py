"""Only what reduces a desk may be written twice."""

from __future__ import annotations

import pytest

from gateway.control.topic import is_stop, producing, told
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
    assert producing(command)["enable.idempotence"] is not expected
    assert producing(command)["acks"] == "all"
