"""`repeated_execution`: what it denies, clips and lets pass."""

from __future__ import annotations

from tests.rules import ACCEPT, traded
from tests.traded_book import result


def test_repeated_execution_stops_until_a_human_has_looked():
    made = traded(max_same_way_executions=3)
    for _ in range(2):
        made.hold(1.0)
    assert made.judge(1.0).outcome is ACCEPT
    made.hold(1.0)
    assert made.judge(1.0).broken == ("repeated_execution",)
    assert made.judge(-3.0).outcome is ACCEPT  # an exit
    assert made.judge(-3.001).broken == ("repeated_execution",)
    made.hold(-1.0)
    assert made.judge(1.0).broken == ("repeated_execution",)
    made.book.reset("repeated_execution")
    assert made.judge(1.0).outcome is ACCEPT


def test_the_run_is_told_and_an_order_of_the_other_side_begins_anew():
    made = traded(max_same_way_executions=5)
    for _ in range(3):
        made.hold(1.0)
    assert result(made.judge(1.0), "repeated_execution").value == 4.0
    assert result(made.judge(-9.0), "repeated_execution").value == 1.0
    made.hold(-9.0)
    assert result(made.judge(-1.0), "repeated_execution").value == 2.0
    for _ in range(4):
        made.hold(-1.0)
    stopped = result(made.judge(1e-3 - 20.0), "repeated_execution")
    assert (stopped.passed, stopped.value) == (False, 6.0)
    flip = result(made.judge(30.0), "repeated_execution")
    assert (flip.passed, flip.value) == (False, 6.0)
