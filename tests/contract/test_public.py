"""What callers may rely on: each name is there, told, and as docs/python.md lists it."""

from __future__ import annotations

import inspect
from importlib import import_module

import pytest

from stack.workflows.public import PUBLIC, listed
from tests.paths import ROOT

MARK = "<!-- public: python -m stack.workflows.public -->\n\n"
NAMES = [(module, name) for module, names in PUBLIC.items() for name in names]


def test_the_list_is_the_codes():
    """Where it is not, a caller's code may break: change it on purpose, and say so in the commit."""
    text = (ROOT / "docs" / "python.md").read_text()
    assert text.partition(MARK)[2].partition("\n\n")[0] == listed()


@pytest.mark.parametrize(("module", "name"), NAMES, ids=lambda one: one)
def test_what_is_public_says_what_it_is(module, name):
    thing = getattr(import_module(module), name)
    if not callable(thing):
        return
    assert inspect.getdoc(thing)
    if inspect.isfunction(thing):
        hints = inspect.signature(thing)
        assert all(p.annotation is not inspect.Parameter.empty for p in hints.parameters.values())


def test_the_packages_tell_their_types():
    rooms = {module.partition(".")[0] for module in PUBLIC}
    assert {room for room in rooms if (ROOT / room / "py.typed").exists()} == rooms
