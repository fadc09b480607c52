"""`cooldown`: what it denies, clips and lets pass."""

from __future__ import annotations

from tests.rules import ACCEPT, DENY, traded
from tests.traded_book import result


def test_cooldown_pauses_what_its_scope_says_and_for_so_long():
    def lose(made, symbol="A", side=1.0):
        made.hold(side, 100.0, symbol)
        made.hold(-side, 100.0 - side, symbol)

    terms = {"cooldown_losses": 2, "cooldown_window_s": 60.0, "cooldown_s": 30.0}
    for scope, paused in (("symbol", "A+ A-"), ("side", "A+"), ("all", "A+ A- B+ B-")):
        made = traded(**terms, cooldown_scope=scope)
        made.tick(100.0, "B")
        lose(made)
        assert made.judge(1.0).outcome is ACCEPT
        lose(made)
        found = [
            f"{s}{'+' if q > 0 else '-'}" for s in "AB" for q in (1.0, -1.0) if made.judge(q, s).outcome is DENY
        ]
        assert " ".join(found) == paused
        made.tick(100.0, after_s=29.9)
        assert made.judge(1.0).broken == ("cooldown",)
        made.tick(100.0, after_s=0.1)
        assert made.judge(1.0).outcome is ACCEPT
    spread = traded(**terms)
    lose(spread)
    spread.tick(100.0, after_s=60.0)  # the first is too long ago
    lose(spread)
    assert spread.judge(1.0).outcome is ACCEPT
    shorts = traded(**terms, cooldown_scope="side")
    for _ in range(2):
        lose(shorts, side=-1.0)
    assert shorts.judge(-1.0).broken == ("cooldown",)
    assert shorts.judge(1.0).outcome is ACCEPT


def test_a_pause_is_told_in_seconds_and_an_exit_passes_it():
    made = traded(cooldown_losses=1, cooldown_s=30.0)
    made.hold(2.0)
    made.hold(-1.0, 99.0)
    made.tick(100.0, after_s=10.0)
    assert result(made.judge(1.0), "cooldown").value == 20.0
    assert made.judge(-1.0).outcome is ACCEPT
    assert made.judge(-3.0).quantity == -1.0
