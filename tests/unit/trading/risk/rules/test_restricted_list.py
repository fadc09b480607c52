"""`restricted_list`: what it denies, clips and lets pass."""

from __future__ import annotations

from tests.rules import ACCEPT, CLIP, traded


def test_restricted_and_long_only_let_positions_be_left():
    made = traded(symbols={"R": {"restricted": True}, "L": {"long_only": True}})
    for symbol, rule in (("R", "restricted_list"), ("L", "long_only")):
        made.hold(2.0, 100.0, symbol)
        assert made.judge(-2.0, symbol).outcome is ACCEPT
        over = made.judge(-3.0, symbol)
        assert (over.outcome, over.quantity, over.broken) == (CLIP, -2.0, (rule,))
    assert made.judge(1.0, "R").broken == ("restricted_list",)
    assert made.judge(1.0, "L").outcome is ACCEPT
    made.work(-1.5, "L")
    assert made.judge(-1.0, "L").quantity == -0.5
