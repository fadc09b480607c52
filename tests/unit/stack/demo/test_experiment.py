"""What the experiment's demo tells, and when it is as planted."""

from __future__ import annotations

import json

import pytest
from msgspec import structs

from services.experiments.evaluation import evaluate
from services.experiments.statistics.verdict import Verdict
from stack.cli.output import print_json
from stack.demo.experiment import Shown, as_planted, experiment_of
from tests.unit.services.experiments.test_evaluation import UNGUARDED, noise, series_of


def evaluation(better, worse):
    market = noise(1, 600)
    return evaluate(UNGUARDED, series_of(market, market + noise(2, 600) + better, market + noise(3, 600) + worse))


@pytest.mark.parametrize(
    ("better", "worse", "planted"), [(1.0, -1.0, True), (1.0, 1.0, False), (-1.0, -1.0, False)]
)
def test_it_is_as_planted_where_both_are_found(better, worse, planted):
    assert as_planted(evaluation(better, worse)) is planted


def test_it_is_told_as_json(capsys):
    definition = experiment_of({"champion": 1, "signal": 2, "contrary": 3})
    found = evaluation(1.0, -1.0)
    print_json(Shown(definition, found, 90_000, "/tmp/page.html", as_planted(found)))
    told = json.loads(capsys.readouterr().out)
    assert told["as_planted"] is True
    assert [one["verdict"] for one in told["evaluation"]["challengers"]] == [Verdict.BETTER, Verdict.WORSE]
    assert told["experiment"]["challengers"][0]["version"] == 2
    assert structs.asdict(found)["blocks"] == 600
