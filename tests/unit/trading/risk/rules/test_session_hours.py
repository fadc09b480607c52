"""`session_hours`: what it denies, clips and lets pass."""

from __future__ import annotations

from tests.rules import ACCEPT, DENY, traded
from tests.traded_book import SECOND
from trading.risk.calendar import Session


def test_session_hours_follow_the_time_zone_with_its_summer_time():
    session = Session(timezone="America/New_York", opens="09:30", closes="16:00", days=("mon", "tue"),
                      holidays=("2024-07-02",))  # fmt: skip
    made = traded(session=session)

    def at(day, hour, minute):  # UTC, of July 2024: New York is four hours behind
        made.now_ns = 1_719_792_000 * SECOND  # 2024-07-01, a Monday
        made.tick(100.0, after_s=((day - 1) * 24 + hour) * 3600 + minute * 60)
        return made.judge(1.0).outcome

    assert [at(1, 13, 29), at(1, 13, 30), at(1, 19, 59), at(1, 20, 0)] == [DENY, ACCEPT, ACCEPT, DENY]
    assert [at(2, 15, 0), at(3, 15, 0), at(8, 15, 0)] == [DENY, DENY, ACCEPT]  # holiday, Wednesday, Monday


def test_a_session_over_midnight_belongs_to_the_day_on_which_it_opened():
    made = traded(session=Session(opens="22:00", closes="02:00", days=("mon",)))
    outcomes = []
    for hours in (9, 10, 13, 14, 33):  # from Monday noon: 21:00, 22:00, 01:00, 02:00, Tuesday 21:00
        made.now_ns = 1_704_110_400 * SECOND
        made.tick(100.0, after_s=hours * 3600)
        outcomes.append(made.judge(1.0).outcome)
    assert outcomes == [DENY, ACCEPT, ACCEPT, DENY, DENY]
