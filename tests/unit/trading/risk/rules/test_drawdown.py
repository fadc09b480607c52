"""`drawdown`: what it denies, clips and lets pass."""

from __future__ import annotations

from tests.rules import ACCEPT, DENY, traded
from tests.traded_book import result
from trading.risk.limits import LimitSet, LimitsFile


def test_drawdown_and_daily_loss_at_their_limits():
    made = traded(max_drawdown=0.25, max_daily_loss=500.0, capital=1_000.0)
    made.hold(10.0)
    made.tick(75.0)
    assert made.judge(1.0).outcome is ACCEPT
    made.tick(74.99)
    assert made.judge(1.0).broken == ("drawdown",)
    other = traded(max_daily_loss=250.0, capital=1_000.0)
    other.hold(10.0)
    other.tick(75.0)
    assert other.judge(1.0).outcome is ACCEPT
    other.tick(74.99)
    assert other.judge(1.0).broken == ("daily_loss",)
    other.tick(100.0)
    assert other.judge(1.0).broken == ("daily_loss",)  # latched for the day
    assert other.judge(-10.0).outcome is ACCEPT
    other.tick(100.0, after_s=12 * 3600)
    assert other.judge(1.0).outcome is ACCEPT


def test_lean_resets_the_drawdowns_baseline_on_a_breach_so_that_the_loss_repeats():
    made = traded(max_drawdown=0.1, capital=10_000.0)
    made.hold(100.0)
    made.tick(89.0)
    assert made.judge(1.0).broken == ("drawdown",)
    account = made.book.tables.account[0]
    assert (account.high_water, bool(account.drawdown_latched)) == (10_000.0, True)
    made.tick(101.0)  # everything is won back, and it stays latched
    assert made.judge(1.0).broken == ("drawdown",)
    assert made.judge(-100.0).outcome is ACCEPT
    made.tick(95.0)
    made.book.reset("drawdown")  # a human: from here the mark begins anew
    assert made.judge(1.0).outcome is ACCEPT
    made.tick(85.0)
    assert made.judge(1.0).broken == ("drawdown",)


def test_a_book_that_has_lost_everything_is_latched_whatever_a_share_of_nothing_is():
    made = traded(max_drawdown=0.2, capital=1_000.0)
    made.hold(10.0)
    made.tick(5.0)
    made.book.reset("drawdown")
    made.book.set_limits(LimitSet(LimitsFile(defaults={**made.book.limits.file.defaults, "capital": 900.0})))
    assert made.book.tables.account[0].high_water == -50.0
    made.tick(4.0)
    verdict = made.judge(1.0)
    assert (verdict.outcome, result(verdict, "drawdown").value) == (DENY, None)
    assert made.judge(-10.0).outcome is ACCEPT


def test_freqtrade_counts_closed_trades_only():
    made = traded(max_drawdown=0.1, max_daily_loss=1_500.0, capital=10_000.0)
    made.hold(100.0)
    made.tick(80.0)  # nothing is closed, a fifth is gone
    assert set(made.judge(1.0).broken) == {"drawdown", "daily_loss"}
