"""An experiment that would come to nothing on this desk is refused, or a person is told."""

from __future__ import annotations

import pytest

from stack.workflows.experiments.deciding import doubts, objection
from trading.experiments.definition import Challenger, ExperimentDefinition, PrimaryMetric, ServedModel

CHAMPION = ServedModel("trading_decision", 3)


def experiment(challenger="trading_decision", symbols=()):
    return ExperimentDefinition(
        1, "fresh", CHAMPION, (Challenger("newer", challenger, 4),), PrimaryMetric(1.0), kind="canary", salt="salt-one",
        symbols=symbols,
    )  # fmt: skip


@pytest.mark.parametrize("now", [ServedModel("trading_decision", 4), ServedModel("trading_decision_fused", 3)])
def test_another_champion_than_what_decides_is_refused(now):
    assert objection(experiment(), now).startswith(f"the desk is decided by {now}, and the champion of fresh is ")


@pytest.mark.parametrize("now", [CHAMPION, None])
def test_what_decides_and_what_nobody_knows_are_not_refused(now):
    assert objection(experiment(), now) == ""


@pytest.mark.parametrize(
    ("challenger", "symbols", "seen", "told"),
    [
        ("trading_decision", (), ["A"], []),
        ("trading_decision", ("A", "B"), ["B", "C"], []),
        # Before the first decision nobody knows the symbols.
        ("trading_decision", ("A",), [], []),
        (
            "trading_decision",
            ("A", "B"),
            ["D", "C"],
            ["none of the newest decisions is about A, B: they are about C, D"],
        ),
        (
            "trading_decision_fused",
            (),
            [],
            ["newer can be compared, and not promoted: it is trading_decision_fused/4"],
        ),
    ],
)
def test_a_person_is_told_what_may_come_to_nothing(challenger, symbols, seen, told):
    found = doubts(experiment(challenger, symbols), seen)
    assert len(found) == len(told)
    assert all(one.startswith(begin) for one, begin in zip(found, told, strict=True))
