"""`daily_loss`: what it denies, clips and lets pass."""

from __future__ import annotations

from tests.rules import ACCEPT, traded
from trading.risk.calendar import Session


def test_the_trading_day_begins_where_the_account_is():
    made = traded(session=Session(timezone="Asia/Tokyo", rolls="06:00"), max_daily_loss=100.0, capital=1_000.0)
    made.hold(10.0)
    made.tick(80.0)
    assert made.judge(1.0).broken == ("daily_loss",)
    made.tick(80.0, after_s=9 * 3600 - 1)  # 21:00 in London is 06:00 in Tokyo
    assert made.judge(1.0).broken == ("daily_loss",)
    made.tick(80.0, after_s=1.0)
    assert made.judge(1.0).outcome is ACCEPT
