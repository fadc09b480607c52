"""Only what reduces a desk may be written twice."""

from __future__ import annotations

import pytest

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
    assert is_stop(told(kind, value, "why", "who")) is expected
