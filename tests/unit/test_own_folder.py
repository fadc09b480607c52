"""Runs of pytest keep out of each other's way, and what they leave does not grow."""

from __future__ import annotations

import os
import stat
import subprocess
import sys

from tests.own_folder import BEGINS, KEPT, forget_old, own_folder


def left(where):
    return sorted(int(path.name.removeprefix(BEGINS)) for path in where.iterdir() if path.name[3:].isdigit())


def dead_numbers(count):
    """Of processes that were, and are no more."""
    found = set()
    while len(found) < count:
        found.add(int(subprocess.check_output([sys.executable, "-c", "import os; print(os.getpid())"])))
    return sorted(found)


def test_it_is_this_runs_own_and_others_may_pass_through_it(tmp_path):
    folder = own_folder(tmp_path)
    assert folder == tmp_path / f"{BEGINS}{os.getpid()}"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o711
    # As where another's number was the same.
    again = own_folder(tmp_path)
    assert again != folder
    assert again.is_dir()


def test_of_runs_that_are_over_the_newest_stay(tmp_path):
    numbers = dead_numbers(KEPT + 2)
    for age, number in enumerate(reversed(numbers)):
        path = tmp_path / f"{BEGINS}{number}"
        path.mkdir()
        os.utime(path, (1000 - age, 1000 - age))
    (tmp_path / f"{BEGINS}{os.getpid()}").mkdir()
    (tmp_path / f"{BEGINS}mine").mkdir()
    forget_old(tmp_path)
    assert left(tmp_path) == sorted([*numbers[-KEPT:], os.getpid()])
    assert (tmp_path / f"{BEGINS}mine").is_dir()


def test_this_run_is_in_one(tmp_path, pytestconfig):
    told = pytestconfig.getoption("basetemp")
    assert tmp_path.is_relative_to(told or os.environ["PYTEST_DEBUG_TEMPROOT"])
