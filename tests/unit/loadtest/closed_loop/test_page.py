"""Gates as Locust's page shows them."""

from __future__ import annotations

from msgspec import structs

from loadtest.closed_loop.page import COLUMNS, gates
from loadtest.judging.gates import judge
from loadtest.judging.targets import Target
from tests.unit.loadtest.results import result_of


def test_a_kind_of_request_has_its_verdict_and_a_row_for_each_goal():
    rows = gates([judge(result_of([5.0] * 200), Target(min_samples=1, p50_ms=1e-6, p99_ms=1e6))])
    assert all(tuple(row) == tuple(COLUMNS) for row in rows)
    assert rows[0]["verdict"] == "MISSED"
    told = {row["figure"]: row["verdict"] for row in rows[1:]}
    assert (told["p50"], told["p99"]) == ("MISSED", "held")


def test_too_few_prove_nothing_yet_and_a_kind_without_goals_has_none():
    few = judge(result_of([5.0] * 200), Target(min_samples=10**9))
    assert gates([few])[0]["verdict"] == "proves nothing yet"
    (only,) = gates([structs.replace(few, checks=[], verdict="unjudged")])
    assert (only["figure"], only["verdict"]) == ("", "no goal")
