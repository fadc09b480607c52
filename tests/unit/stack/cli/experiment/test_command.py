"""`ultrathink experiment`: what a file holds, and what is wrong with it."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from services.experiments.block_series import BlockSeries
from services.experiments.evaluation import evaluate
from stack.cli.experiment.command import take
from stack.cli.experiment.showing import show
from stack.cli.main import app
from stack.cli.output import out
from stack.workflows.experiments.shadow import Begun
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
    with pytest.raises(ConfigurationError, match="line 8: block: 5: expected a span of time with its unit"):
        CLI.invoke(app, ["experiment", "check", str(file)], catch_exceptions=False)


def test_the_schema_is_json():
    told = json.loads(CLI.invoke(app, ["experiment", "schema"]).stdout)
    assert "challengers" in told["$defs"]["ExperimentDefinition"]["properties"]


class Run:
    """A shadow of a desk that decides ten ticks a turn, for ever."""

    def __init__(self, interrupted_at=0):
        self.rows, self.ended, self.turns, self.interrupted_at = 0, "", 0, interrupted_at
        self.series = series_of(noise(1, 150), noise(1, 150) + 9.0, noise(1, 150) - 9.0)

    def turn(self, timeout_s):
        self.turns += 1
        if self.turns == self.interrupted_at:
            raise KeyboardInterrupt
        self.rows += 10
        return 10

    def has_reached(self, places):
        return self.rows >= places[0]

    def evaluation(self):
        return evaluate(TWO, self.series)


def test_what_lay_there_is_taken_and_no_more():
    run = Run()
    take(Begun(run, {0: 30}, 30), follow=False)
    assert (run.rows, run.ended) == (30, "")


def test_it_follows_until_there_is_an_answer():
    run = Run()
    take(Begun(run, {0: 30}, 30), follow=True, look_s=0.0)
    assert (run.rows, run.ended) == (40, "")


@pytest.mark.parametrize("turn", [2, 5])
def test_somebody_ends_it_with_what_is_known(turn):
    run = Run(interrupted_at=turn)
    take(Begun(run, {0: 30}, 30), follow=True, look_s=60.0)
    assert run.ended == "it was ended by hand"
    assert run.rows == 10 * (turn - 1)


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


@pytest.mark.parametrize(
    ("page", "told"),
    [
        (".", "is a folder"),
        ("experiment.yaml", "is the experiment itself"),
        ("page.txt", "name a file that ends with .html"),
        ("experiment.yaml/page.html", "nothing can be written into"),
    ],
)
def test_a_page_that_cannot_be_written_is_refused_before_hours_of_work(file, page, told):
    with pytest.raises(ConfigurationError, match=told):
        CLI.invoke(
            app, ["experiment", "shadow", str(file), "--out", str(file.parent / page)], catch_exceptions=False
        )


@pytest.mark.parametrize("since", ["yesterday", "0s", "1w"])
def test_a_span_that_is_none_is_named_with_its_option(file, since):
    with pytest.raises(ConfigurationError, match=f"--since '{since}' is no span of time"):
        CLI.invoke(app, ["experiment", "shadow", str(file), "--since", since], catch_exceptions=False)


def test_a_name_that_no_folder_can_hold_is_a_sentence(file):
    for words in (["shadow", str(file), "--out", "a" * 300 + ".html"], ["check", "b" * 300 + ".yaml"]):
        with pytest.raises(ConfigurationError, match="File name too long"):
            CLI.invoke(app, ["experiment", *words], catch_exceptions=False)


def test_an_experiment_without_a_block_is_told_in_words(monkeypatch, capsys):
    monkeypatch.setattr(out, "width", 200)
    show(TWO, evaluate(TWO, BlockSeries(TWO.arms, 3)), 0)
    told = capsys.readouterr().out
    assert "nothing seen yet" in told
    assert "bps" in told
    assert "nan" not in told
    assert "inf" not in told


@pytest.mark.parametrize("share", ["nan", "1.5", "-0.1", "inf"])
def test_a_share_that_is_none_is_named(share):
    with pytest.raises(ConfigurationError, match=f"--to {share}: a share is from 0 to 1"):
        CLI.invoke(
            app, ["experiment", "ramp", "fresh", f"--to={share}", "--reason", "a test"], catch_exceptions=False
        )
