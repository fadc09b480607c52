"""What keeps the house readable is held: sizes, and who needs so many arguments."""

from __future__ import annotations

import ast
import tomllib

import pytest

from tests.paths import ROOT

ROOMS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["root_packages"]
SOURCES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
LINES, SCREEN, ARGUMENTS = 350, 50, 8
#: One pass over one state: compiled, where a call costs what it says.
KERNELS = {"trading/features/kernel.py:update_one"}


def functions(path):
    tree = ast.parse(path.read_text())
    return [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]


def named(path, function):
    return f"{path.relative_to(ROOT)}:{function.name}"


def test_every_room_is_looked_at():
    assert len(SOURCES) > 300
    assert {path.relative_to(ROOT).parts[0] for path in SOURCES} == set(ROOMS)


def test_no_file_is_longer_than_a_person_reads_at_once():
    assert [f"{p.relative_to(ROOT)}" for p in SOURCES if p.read_text().count("\n") > LINES] == []


def test_no_function_outside_compiled_kernels_is_longer_than_a_screen():
    long = {named(p, f) for p in SOURCES for f in functions(p) if f.end_lineno - f.lineno + 1 > SCREEN}
    assert long == KERNELS


def test_no_hand_written_init_takes_too_many():
    many = []
    for path in SOURCES:
        for function in functions(path):
            arguments = function.args
            count = len(arguments.posonlyargs) + len(arguments.args) + len(arguments.kwonlyargs) - 1
            if function.name == "__init__" and count > ARGUMENTS:
                many.append(named(path, function))
    assert many == []


@pytest.mark.parametrize(
    "room", ["trading", "connectors", "gateway", "services", "exporters", "trainers", "loadtest", "stack"]
)
def test_tests_mirror_what_they_test(room):
    """A folder of tests is a folder of the package."""
    folder = ROOT / "tests" / "unit" / room
    assert folder.is_dir()
    inside = [p.relative_to(folder) for p in folder.rglob("*") if p.is_dir() and p.name != "__pycache__"]
    assert [str(p) for p in inside if not (ROOT / room / p).is_dir()] == []
