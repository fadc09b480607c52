"""`kill_switch`: what it denies, clips and lets pass."""

from __future__ import annotations

from tests.rules import DENY, traded
from trading.risk.trading_state import KILLED


def test_hummingbots_kill_switch_logs_an_error_and_goes_on():
    made = traded(halted_allows_exits=True)
    made.hold(5.0)
    for state in (KILLED, KILLED + 1, -1):
        assert "kill_switch" in made.judge(-5.0, state=state).broken
        assert made.judge(-5.0, state=state).outcome is DENY
