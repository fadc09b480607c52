"""What the pages name exists: files, folders, and the names in them."""

from __future__ import annotations

import ast
import re

import pytest

from connectors.kafka.topics import TOPICS
from tests.paths import ROOT
from trading.history.simulate import SCENARIOS

PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs/runbook").glob("*.md")),
]
#: Written by programs, or told of a machine.
MADE = {"performance.md", "models.md", "proof.md"}
ROOMS = {path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")}
PATH = re.compile(r"`((?:[\w.-]+/)+[\w.-]*)`")
DOTTED = re.compile(r"`((?:\w+\.)+\w+)`")


def told_paths(text):
    return [found for found in PATH.findall(text) if found.partition("/")[0] in ROOMS]


def defined(path):
    """Names of classes, functions, methods and constants."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
    return names


def test_what_scaling_reckons_with_was_measured():
    """Each figure of the page on scaling stands, as it is written there, among the benchmarks'."""
    measured = (ROOT / "docs" / "performance.md").read_text().partition("## Scaling:")[2].partition("\n## ")[0]
    page = (ROOT / "docs" / "scaling.md").read_text()
    table = page.partition("| process |")[2].partition("\n\n")[0]
    told = re.findall(r"[\d,.]+ us|\b\d+%", table)
    assert len(told) == 15
    told += re.findall(r"[\d,.]+ B(?= of)|[\d,]+ decisions/s, and|[\d.]+ times", page)
    assert [one for one in told if one.removesuffix(", and") not in measured] == []


def test_every_market_that_can_be_simulated_is_named():
    assert f"`simulate:SCENARIO?seed=N` ({', '.join(SCENARIOS)};" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("page", [p for p in PAGES if p.name not in MADE], ids=lambda p: p.name)
def test_every_path_that_a_page_names_exists(page):
    missing = [path for path in told_paths(page.read_text()) if not (ROOT / path).exists()]
    assert missing == []


@pytest.mark.parametrize("page", [p for p in PAGES if p.name not in MADE], ids=lambda p: p.name)
def test_every_module_that_a_page_names_by_its_last_name_exists(page):
    there = {path.name for room in ROOMS for path in (ROOT / room).rglob("*.py")}
    told = set(re.findall(r"`([a-z_]+\.py)`", page.read_text()))
    assert told - there == set()


@pytest.mark.parametrize("page", [p for p in PAGES if p.name not in MADE], ids=lambda p: p.name)
def test_every_link_between_pages_leads_somewhere(page):
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)]+)\)", page.read_text()) if "://" not in link]
    assert [link for link in links if link and not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", [p for p in PAGES if p.name not in MADE], ids=lambda p: p.name)
def test_every_dotted_name_of_ours_exists(page):
    for dotted in DOTTED.findall(page.read_text()):
        room, *rest = dotted.split(".")
        if room not in ROOMS or rest == ["py"] or dotted in TOPICS.by_role().values():
            continue
        *folders, last = rest
        module = ROOT.joinpath(room, *folders)
        inside = module.with_suffix(".py") if module.with_suffix(".py").is_file() else module / "__init__.py"
        whole = ROOT.joinpath(room, *rest)
        assert whole.is_dir() or whole.with_suffix(".py").is_file() or last in defined(inside), dotted


def test_every_step_of_a_life_names_what_its_file_has():
    rows = [
        line.split("|")[1:-1]
        for line in (ROOT / "docs/architecture.md").read_text().splitlines()
        if line[:1] == "|"
    ]
    steps = [(step, *re.findall(r"`([^`]+)`", file), re.findall(r"`([^`]+)`", names)) for step, file, names in
             (row for row in rows if len(row) == 3 and ".py" in row[1])]  # fmt: skip
    assert len(steps) > 30
    wrong = [(path, name) for _, path, names in steps for name in names if name not in defined(ROOT / path)]
    assert wrong == []
    assert all(names for _, _, names in steps)


def test_the_page_of_the_house_names_every_room():
    text = (ROOT / "docs/architecture.md").read_text()
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests"}
    assert {name for name in packages if name not in text} == set()
    inside = {f"stack/{path.parent.name}/" for path in ROOT.glob("stack/*/__init__.py")}
    assert {name for name in inside if f"`{name}`" not in text} == set()


def test_a_stale_tick_is_denied_where_the_page_says():
    from trading.risk.rules import RULES

    assert RULES["stale_data"].__file__ == str(ROOT / "trading/risk/rules/stale_data.py")
