"""Figures and goals: what was not measured reaches none, and the page says what was reached and missed."""

from __future__ import annotations

import math

import msgspec
import pytest
from msgspec import structs

from benchmarks import all as bench
from benchmarks import figures
from benchmarks.figures import BenchmarkFigures, read
from tests.paths import ROOT


@pytest.fixture
def part(tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "RESULTS", tmp_path)
    made = BenchmarkFigures("x", "some figures")
    made.tell("quick", 3.0, "ms", at_most=5.0)
    made.tell("slow", 7.0, "ms", at_most=5.0, beside="a|b")
    made.tell("much", 9.0, "/s", at_least=5.0)
    made.tell("not kept", math.inf, "ms", at_most=5.0)
    made.tell("not measured", math.nan, "/s", at_least=5.0)
    made.tell("without a goal", 1.0, "")
    made.save({"n": 1})
    return read("x")


def test_each_figure_stands_beside_its_goal(part):
    assert [f.reached for f in part.figures] == [True, False, True, False, False, None]
    assert part.figures[0].goal == "< 5 ms"
    assert (part.figures[3].value, part.figures[4].value) == (None, None)
    assert (part.details, part.commit != "") == ({"n": 1}, True)


def test_the_page_counts_what_was_reached_and_escapes_its_table(part):
    page = bench.markdown(bench.Latest([part]))
    assert "2 goals reached, 3 missed" in page
    assert "| slow | 7 ms | < 5 ms | **missed** | a\\|b |" in page
    assert "| not kept | none | < 5 ms | **missed** |  |" in page


def test_a_part_that_was_not_run_stays_as_it_was_on_the_page(part):
    other = structs.replace(part, title="another", commit="old")
    before = bench.markdown(bench.Latest([other, part]))
    again = bench.markdown(bench.Latest([structs.replace(part, commit="new")]), before)
    assert bench.sections_of(again)["## Another"] == bench.sections_of(before)["## Another"]
    assert "commit new" in again
    assert again.count("## ") == before.count("## ") == 2
    assert "4 goals reached, 6 missed" in again
    assert bench.markdown(bench.Latest([structs.replace(part, commit="new")]), again) == again


def test_the_committed_page_is_one_that_this_code_writes():
    """Every part has its heading, and each line that names a goal says whether it was reached."""
    page = (ROOT / "docs" / "performance.md").read_text()
    assert page.startswith("# Performance\n")
    goals = [line for line in page.splitlines() if line.startswith("| ") and ("| < " in line or "| > " in line)]
    assert len(goals) > 20
    assert all("reached" in line or "**missed**" in line for line in goals)
    assert f"{sum('| reached |' in line for line in goals)} goals reached" in page


def test_every_part_names_a_module_that_writes_it():
    for name, module in bench.PARTS.items():
        text = (ROOT / f"{module.replace('.', '/')}.py").read_text()
        assert f'Figures("{name}"' in text
    assert msgspec.json.encode(bench.PARTS)
