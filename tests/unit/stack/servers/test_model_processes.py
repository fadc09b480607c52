"""A served model whose process died is noticed, whatever its server says; one on trial, or unloaded, is not."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from contextlib import contextmanager

import psutil
import pytest

from stack.servers.model_processes import ModelProcesses
from stack.servers.plain_paths import plain
from tests.waiting import eventually

SLEEPS = "import time; time.sleep(600)"


@pytest.fixture
def repository(tmp_path):
    return tmp_path / "models"


def looking(repository, *served):
    return ModelProcesses(repository, lambda: set(served), 0.2)


@contextmanager
def stub(path):
    """A process that bears a model's path, as Triton's stubs do, and whose corpse stays until the end."""
    process = subprocess.Popen([sys.executable, "-c", SLEEPS, str(path)])
    try:
        found = psutil.Process(process.pid)
        # For a moment the kernel shows none.
        eventually(lambda: str(path) in found.cmdline())
        yield found
    finally:
        process.kill()
        process.wait()


def kill(process):
    process.kill()
    eventually(lambda: process.status() == psutil.STATUS_ZOMBIE)


def test_a_served_model_whose_process_died_is_named(repository):
    look = looking(repository)
    with stub(repository / "regime/1/model.onnx") as one, stub(repository / "meta/2/model.pt") as other:
        assert look([one, other]) == ""
        kill(other)
        assert look([one, other]) == "the process of meta ended"


def test_one_that_is_taken_away_in_a_moment_was_ended_on_purpose(repository):
    look = looking(repository)
    with stub(repository / "regime/1/model.onnx") as one, stub(repository / "meta/2/model.pt") as other:
        assert look([one, other]) == ""
        kill(other)
        threading.Timer(0.05, os.waitpid, (other.pid, 0)).start()
        assert look([one, other]) == ""
        assert look([one]) == ""
        assert look.troubles() == []


def test_a_repository_that_triton_knows_by_a_link_is_the_same(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    repository = tmp_path / "models of José"
    look = looking(repository)
    with stub(plain(repository) / "regime/1/model.onnx") as one:
        assert look([one]) == ""
        kill(one)
        assert look([one]) == "the process of regime ended"


def test_a_copy_on_trial_may_die(repository, tmp_path):
    look = looking(repository)
    with stub(tmp_path / "folderX/1/model.onnx") as trial, stub(f"{repository}-old/regime/1/model.onnx") as older:
        assert look([trial, older]) == ""
        kill(trial)
        kill(older)
        assert [look([trial, older]) for _ in range(3)] == ["", "", ""]


def test_one_that_was_unloaded_leaves_no_corpse_and_one_that_nobody_saw_alive_says_nothing(repository):
    look = looking(repository)
    with stub(repository / "regime/1/model.onnx") as one:
        assert look([one]) == ""
        assert look([]) == ""
        kill(one)
        assert [look([one]), look([one])] == ["", ""]
        # It may have been a served one: that is said, and nothing is ended for it.
        assert "nobody knows of which" in look.troubles()[0]
        assert look([]) == ""
        assert look.troubles() == []


def test_after_a_takeover_a_served_model_without_a_process_is_found_by_its_name(repository):
    look = looking(repository, "regime", "meta")
    with stub(repository / "regime/1/model.onnx") as one, stub(repository / "meta/2/model.pt") as other:
        kill(other)
        # Nobody has seen it alive.
        assert [look([one, other]), look([one, other])] == ["", "the process of meta ended"]


def test_a_corpse_of_nobody_that_is_served_ends_nothing(repository, tmp_path):
    look = looking(repository, "regime")
    with stub(repository / "regime/1/model.onnx") as one, stub(tmp_path / "folderX/1/model.onnx") as trial:
        kill(trial)
        assert [look([one, trial]) for _ in range(3)] == ["", "", ""]
        assert "nobody knows of which" in look.troubles()[0]
