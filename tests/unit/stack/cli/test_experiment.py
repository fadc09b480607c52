"""`ultrathink experiment`: what a file holds, and what is wrong with it."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from services.experiments.evaluation import evaluate
from stack.cli.experiment import show, take_all, take_more
from stack.cli.main import app
from stack.cli.output import out
from tests.unit.services.experiments.test_evaluation import TWO, noise, series_of
from tests.unit.trading.experiments.test_definition import WHOLE
from trading.errors import ConfigurationError

CLI = CliRunner()


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "experiment.yaml"
    path.write_text(WHOLE)
    return path


def test_a_file_is_checked_whole(file):
    done = CLI.invoke(app, ["experiment", "check", str(file)])
    assert done.exit_code == 0
    assert "fresh-regimes, blocks of 5m: champion (trading_decision_fused/3), fresh (" in done.stdout
    told = json.loads(CLI.invoke(app, ["experiment", "check", str(file), "--json"]).stdout)
    assert told["challengers"][1]["arm"] == "slow"
    file.write_text(WHOLE.replace("block: 5m", "block: 5"))
    with pytest.raises(ConfigurationError, match="line 8: block: Expected `str`, got `int`"):
        CLI.invoke(app, ["experiment", "check", str(file)], catch_exceptions=False)


def test_the_schema_is_json():
    told = json.loads(CLI.invoke(app, ["experiment", "schema"]).stdout)
    assert "challengers" in told["$defs"]["ExperimentDefinition"]["properties"]


class Run:
    """A shadow that has three more turns to take."""

    def __init__(self, verdict=None):
        self.rows, self.ended, self.turns, self.verdict = 0, "", 0, verdict
        self.series = series_of(noise(1, 150), noise(1, 150) + 9.0, noise(1, 150) - 9.0)

    def turn(self, timeout_s):
        self.turns += 1
        if self.verdict is KeyboardInterrupt and self.turns == 2:
            raise KeyboardInterrupt
        self.rows += 10 if self.turns < 4 else 0
        return 10 if self.turns < 4 else 0

    @property
    def is_behind(self):
        return self.turns < 3

    def evaluation(self):
        return evaluate(TWO, self.series)


def test_all_that_lies_there_is_taken():
    run = Run()
    take_all(run, 30)
    assert run.rows == 30


def test_it_follows_until_there_is_an_answer_or_somebody_ends_it():
    run = Run()
    take_more(run, 0.0)
    assert run.turns == 1
    stopped = Run(KeyboardInterrupt)
    take_more(stopped, 60.0)
    assert stopped.turns == 2


def test_sentences_come_before_the_table():
    run = Run()
    run.ended = "another champion"
    with out.capture() as captured:
        show(TWO, run.evaluation(), 30, run.ended)
    text = captured.get()
    assert text.startswith("Good is better than the champion")
    assert "It ended early: another champion." in text
    assert "breached in block" in text
    lines = [line.split() for line in text.splitlines()]
    assert [line[:3] for line in lines if line[1:2] == ["m/2"]] == [["good", "m/2", "better"]]
    assert [line[:4] for line in lines if line[1:2] == ["m/3"]] == [["bad", "m/3", "does", "harm"]]
