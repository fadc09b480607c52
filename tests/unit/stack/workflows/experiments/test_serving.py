"""How a challenger's copy is held while its experiment goes on."""

from __future__ import annotations

import pytest

from exporters.release.recalled import Holding
from stack.workflows.experiments.serving import holding
from trading.experiments.definition import Challenger, ExperimentDefinition, PrimaryMetric, ServedModel

CHAMPION, CHALLENGER = ServedModel("trading_decision", 1), Challenger("newer", "trading_decision", 2)


def runs():
    return True


@pytest.mark.parametrize(
    ("kind", "held"),
    [
        # Nobody waits for a shadow: what is served comes first.
        ("shadow", Holding("experiment.fresh.newer", runs, yields=True)),
        # Gateways ask a canary's, under the experiment's name, and wait.
        ("canary", Holding("experiment.fresh", runs, yields=False)),
    ],
)
def test_a_copy_is_held_for_its_experiment(kind, held):
    salt = "salt" if kind == "canary" else None
    definition = ExperimentDefinition(1, "fresh", CHAMPION, (CHALLENGER,), PrimaryMetric(1.0), kind=kind, salt=salt)
    assert holding(definition, "newer", runs) == held
