"""docs/inference.md tells the tables that the code does, and examples that are run elsewhere as they stand."""

from __future__ import annotations

import re

import pytest

from tests.paths import ROOT
from trading.features.definitions import FEATURES
from trading.models.reference import formulas, named, pages

PAGE = ROOT / "docs" / "inference.md"


@pytest.mark.parametrize("name", pages())
def test_a_table_is_the_codes(name):
    text = PAGE.read_text()
    mark = f"<!-- {name}: python -m trading.models.reference -->\n\n"
    assert mark in text
    assert text.partition(mark)[2].partition("\n\n")[0].strip() == pages()[name]


def test_each_feature_has_one_formula():
    assert sorted(name for names, _ in formulas() for name in names) == sorted(FEATURES)


def test_names_of_a_row_are_one_several_or_a_range():
    assert named("spread_bps") == ["spread_bps"]
    assert named("drawdown_10m, drawdown_20d") == ["drawdown_10m", "drawdown_20d"]
    assert named("return_1s ... return_1m") == ["return_1s", "return_10s", "return_1m"]


def test_the_page_has_an_example_of_each_way_to_call():
    languages = re.findall(r"^```(\w+)$", PAGE.read_text(), re.MULTILINE)
    assert (languages.count("python"), languages.count("bash")) == (4, 1)
