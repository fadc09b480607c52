"""An experiment's page: the sentence first, pictures, and words instead of what is no number."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from msgspec import structs

from services.experiments.block_series import BlockSeries
from services.experiments.evaluation import evaluate
from services.experiments.live_series import LiveSeries
from services.experiments.partition_canary import LiveArm, LiveOutcome
from stack.workflows.experiments.kept import CountedBlocks, KnownExperiment
from stack.workflows.experiments.report import number, to_page, write_page
from tests.unit.services.experiments.test_evaluation import TWO, noise, series_of
from trading.errors import ConfigurationError
from trading.experiments.register import Experiment, ExperimentState, Said


def page_of(series, ended="", definition=TWO):
    return to_page(definition, evaluate(definition, series), CountedBlocks(series), ended)


def test_the_sentence_comes_first_and_the_pictures_are_there():
    market = noise(1, 400)
    text = page_of(series_of(market, market + noise(2, 400) + 0.5, market - 2.0))
    body = text[text.index("<body>") :]
    assert body.index("good is better than the champion") < body.index("<table>")
    assert '<p class="verdict bad">bad does harm: in block' in body
    assert text.count("data:image/png;base64,") == 3
    assert "It ended early" not in text
    assert "400 blocks of 1m, 1970-01-01 16:40:00 to 1970-01-01 23:20:00 UTC" in text
    assert re.search(r"bad</td><td>drawdown</td>.*?breached in block", text, re.DOTALL)


def test_an_experiment_without_a_block_is_a_page_too():
    text = page_of(BlockSeries(TWO.arms, 3), ended="<b>odd</b>")
    assert "nothing can be said of good yet: 0 blocks of 1m have ended" in text
    assert "data:image" not in text
    # What others wrote is text.
    assert "&lt;b&gt;odd&lt;/b&gt;" in text
    assert "nan" not in text
    assert "inf" not in text.replace("information", "")


def test_nine_arms_have_nine_lines():
    many = structs.replace(
        TWO, challengers=tuple(structs.replace(TWO.challengers[0], arm=f"a{k}", version=k + 2) for k in range(8))
    )
    series = BlockSeries(many.arms, 1)
    one = series_of(*[np.zeros(150)] * 3)
    series._blocks, series._capital = one._blocks, one._capital
    series._rows = [np.repeat(row[:1], 9, axis=0) for row in one._rows]
    assert page_of(series, definition=many).count("data:image/png;base64,") == 9


def test_whose_units_were_and_what_the_market_was_like_are_shown():
    market = noise(1, 200)
    series = series_of(market, market + 1.0, market - 2.0)
    series._regimes = [[5, 1, 0]] * 150 + [[0, 0, 0]] * 50
    desk = LiveSeries(TWO.arms, 1)
    for block in range(200):
        arms = (LiveArm(units=6, rows=60), LiveArm(units=2, rows=20, errors=5), LiveArm(units=2, rows=20))
        desk.add(LiveOutcome(0, block, 1e6, 0.4, whole=True, arms=arms))
    desk.end(999)
    text = to_page(TWO, evaluate(TWO, series), CountedBlocks(series, desk), "")
    assert "Whose the units were, block by block" in text
    assert text.count("data:image/png;base64,") == 4
    (table,) = re.findall(r"<th>regime</th>.*?</table>", text, re.DOTALL)
    assert "good beyond it" in table
    assert re.findall(r'<td>(bull|none seen)</td><td class="n">(\d+)</td>', table) == [
        ("bull", "150"),
        ("none seen", "50"),
    ]
    assert table.count("+1<") == table.count("-2<") == 2


@pytest.mark.parametrize(
    ("value", "told"),
    [(None, "unknown"), (math.nan, "unknown"), (math.inf, "any"), (-math.inf, "none"), (0.5, "+0.5")],
)
def test_what_is_no_number_is_a_word(value, told):
    assert number(value) == told


def test_a_page_is_written_whole_or_not_at_all(tmp_path):
    series = series_of(*[noise(k, 120) for k in range(3)])
    evaluation = evaluate(TWO, series)
    write_page(tmp_path / "new" / "page.html", TWO, evaluation, CountedBlocks(series), "")
    assert (tmp_path / "new" / "page.html").read_text() == to_page(TWO, evaluation, CountedBlocks(series), "")
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="cannot be written"):
        write_page(tmp_path / "file" / "page.html", TWO, evaluation, CountedBlocks(series), "")


@pytest.mark.parametrize(("by", "kind"), [("experiments", "bad"), ("somebody", "note")])
def test_who_stopped_it_and_why_is_told_before_all_figures(by, kind):
    series = series_of(noise(1, 30), noise(2, 30), noise(3, 30))
    said = (Said(8, "start", "somebody", "so", 0), Said(9, "stop", by, "seen <enough>", 0))
    evaluation = evaluate(TWO, series)
    stopped = KnownExperiment(Experiment(TWO, ExperimentState.STOPPED, (), said), evaluation, [], 90)
    text = to_page(TWO, evaluation, CountedBlocks(series), "", stopped)
    line = f'<p class="{kind}">It was stopped by {by}: seen &lt;enough&gt;</p>'
    assert text.index(line) < text.index("<table>")
    again = structs.replace(stopped, experiment=Experiment(TWO, ExperimentState.RUNNING, (), said))
    assert "It was stopped" not in to_page(TWO, evaluation, CountedBlocks(series), "", again)
