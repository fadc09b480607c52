"""Runs of pytest keep out of each other's way, and what they leave does not grow."""

from __future__ import annotations

import os
import stat

import pytest

from tests.own_folder import BEGINS, HELD, KEPT, forget_old, own_folder


def test_it_is_this_runs_own_and_others_may_pass_through_it(tmp_path):
    folder = own_folder(tmp_path)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o711
    assert own_folder(tmp_path) != folder


def test_of_runs_that_are_over_the_newest_stay(tmp_path):
    for age in range(KEPT + 2):
        mark = tmp_path / f"{BEGINS}over{age}" / HELD
        mark.parent.mkdir()
        mark.touch()
        os.utime(mark, (1000 - age, 1000 - age))
    # It goes on, however old it is.
    going_on = own_folder(tmp_path)
    os.utime(going_on / HELD, (1, 1))
    forget_old(tmp_path)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {going_on.name, *(f"{BEGINS}over{age}" for age in range(KEPT))}


@pytest.mark.parametrize("name", ["20240101", "99999999999999999999", "²", "mine", "over"])
def test_what_bears_no_mark_of_a_run_is_left_alone(tmp_path, name):
    for number in range(KEPT + 2):
        folder = tmp_path / f"{BEGINS}{name}{number}"
        folder.mkdir()
        (folder / "notes").write_text("mine")
    own_folder(tmp_path)
    assert len(list(tmp_path.glob(f"{BEGINS}*/notes"))) == KEPT + 2


def test_this_run_is_in_one(tmp_path, pytestconfig):
    told = pytestconfig.getoption("basetemp")
    assert tmp_path.is_relative_to(told or os.environ["PYTEST_DEBUG_TEMPROOT"])
