"""`trading_state`: what it denies, clips and lets pass."""

from __future__ import annotations

from tests.rules import ACCEPT, CLIP, DENY, traded
from trading.risk.trading_state import HALTED, KILLED, REDUCING


def test_nautilus_reducing_looks_at_the_side_only_and_flips():
    made = traded()
    made.hold(1.0)
    verdict = made.judge(-10.0, state=REDUCING)
    assert (verdict.outcome, verdict.quantity) == (CLIP, -1.0)
    assert made.judge(1.0, state=REDUCING).outcome is DENY


def test_reducing_counts_the_exits_that_already_work():
    made = traded()
    made.hold(5.0)
    made.work(-4.0)
    assert made.judge(-3.0, state=REDUCING).quantity == -1.0
    made.work(-1.0)
    assert made.judge(-1.0, state=REDUCING).outcome is DENY


def test_nautilus_halted_blocks_emergency_exits():
    closed, allowed = traded(), traded(halted_allows_exits=True)
    for made in (closed, allowed):
        made.hold(5.0)
    assert closed.judge(-5.0, state=HALTED).outcome is DENY
    assert allowed.judge(-5.0, state=HALTED).outcome is ACCEPT
    assert allowed.judge(-6.0, state=HALTED).quantity == -5.0
    assert allowed.judge(1.0, state=HALTED).outcome is DENY


def test_killed_counts_as_halted_for_exits():
    made = traded()
    made.hold(1.0)
    assert set(made.judge(-1.0, state=KILLED).broken) == {"kill_switch", "trading_state"}
    allowed = traded(halted_allows_exits=True)
    allowed.hold(1.0)
    assert allowed.judge(-1.0, state=KILLED).broken == ("kill_switch",)
