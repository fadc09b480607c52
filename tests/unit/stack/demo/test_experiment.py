"""What the experiments' demo tells, and when it is as planted."""

from __future__ import annotations

import json

import pytest
from msgspec import structs

from exporters.release.released import Released
from services.experiments.evaluation import evaluate
from services.experiments.statistics.verdict import Verdict
from stack.cli.output import print_json
from stack.demo.experiment import Shown, as_planted, experiment_of
from stack.workflows.experiments.kept import KnownExperiment
from stack.workflows.experiments.promoting import Promoted, objection
from tests.unit.services.experiments.test_evaluation import UNGUARDED, noise, series_of
from trading.experiments.definition import ServedModel
from trading.experiments.register import Experiment, ExperimentState, Said

VERSIONS = {"champion": 1, "signal": 2, "contrary": 3}
RELEASED = Released("trading_decision_fused", 2, 1, "release", 0.0, 0.0, 0.1, 1.0, "cpu")
PROMOTED = Promoted("signal", "signal", ServedModel("trading_decision_fused", 2), RELEASED, ["run"], "")


def known(arm, better, by=""):
    market = noise(1, 600)
    evaluation = evaluate(
        UNGUARDED, series_of(market, market + noise(2, 600) + better, market + noise(3, 600) - better)
    )
    said = (Said(9, "stop", by, "it does harm", 0),) if by else ()
    definition = experiment_of(arm, VERSIONS, ("A", "B"))
    return KnownExperiment(Experiment(definition, ExperimentState.STOPPED, (), said), evaluation, [], 90_000)


@pytest.mark.parametrize(
    ("better", "by", "promoted", "planted"),
    [
        (1.0, "experiments", PROMOTED, True),
        (1.0, "somebody", PROMOTED, False),
        (1.0, "", PROMOTED, False),
        (1.0, "experiments", None, False),
        (-1.0, "experiments", PROMOTED, False),
    ],
)
def test_it_is_as_planted_where_all_of_it_was_found_and_acted_on(better, by, promoted, planted):
    ended = {"signal": known("signal", better), "contrary": known("contrary", 1.0, by)}
    assert as_planted(ended, promoted) is planted


def test_it_is_told_as_json(capsys):
    ended = {"signal": known("signal", 1.0), "contrary": known("contrary", 1.0, "experiments")}
    print_json(Shown(ended, "it does harm", PROMOTED, 90_000, {}, as_planted(ended, PROMOTED)))
    told = json.loads(capsys.readouterr().out)
    assert told["as_planted"] is True
    assert told["experiments"]["signal"]["evaluation"]["challengers"][0]["verdict"] == Verdict.BETTER
    assert told["promoted"]["released"]["version"] == 2


def test_only_one_that_is_better_is_promoted_without_somebody_who_answers_for_it():
    arms = [one.arm for one in UNGUARDED.challengers]
    assert objection(known("signal", 1.0), arms[0]) == ""
    assert "is worse than the champion" in objection(known("signal", -1.0), arms[0])
    assert objection(known("signal", 0.0), arms[0]) != ""
    # A stop by its watcher is one, whatever it has kept; and so is what was counted before the last start.
    assert "was stopped: it does harm" in objection(known("signal", 1.0, "experiments"), arms[0])
    assert objection(known("signal", 1.0, "somebody"), arms[0]) == ""
    old = structs.replace(known("signal", 1.0), is_current=False)
    assert "nothing is counted of signal since it was started last" in objection(old, arms[0])
