"""What an earlier supervisor left running is known, whether it keeps its environment or not, and nothing else is."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stack.servers.identity import Identity
from stack.servers.settings import StackSettings
from stack.supervision import orphans
from tests.paths import ROOT

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]
#: A process with a child in its group.
PARENT = [sys.executable, "-c", f"import subprocess; subprocess.Popen({SLEEP!r}).wait()"]


@pytest.fixture
def started():
    """Starts processes, each in a group of its own; none is left at the end."""
    running = []

    def start(command=SLEEP, **environment):
        process = subprocess.Popen(command, env={"PATH": "/usr/bin", **environment}, start_new_session=True)
        running.append(process)
        # Its environment is its parent's until it has begun.
        deadline = time.monotonic() + 10
        while "sleep" not in Path(f"/proc/{process.pid}/cmdline").read_text() and time.monotonic() < deadline:
            time.sleep(0.01)
        return Identity.of(process.pid)

    yield start
    for process in running:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_marked_and_noted_processes_are_found_and_ended_and_no_others(tmp_path, started):
    marked = started(**orphans.marker(tmp_path, "gateway"))
    noted, theirs = started(), started()
    elsewhere = started(**orphans.marker(tmp_path / "other", "gateway"))
    orphans.note(tmp_path, "redis", orphans.Note(noted, "settings"))
    assert sorted(orphans.left_behind(tmp_path)) == [("gateway", marked), ("redis", noted)]
    said = []
    assert orphans.end_left_behind(tmp_path, say=said.append) == 2
    assert {line.split()[0] for line in said} == {"redis", "gateway"}
    assert (marked.find(), noted.find()) == (None, None)
    assert theirs.find() is not None
    assert elsewhere.find() is not None


def test_a_child_goes_with_its_group_and_a_group_that_is_spared_goes_on(tmp_path, started):
    ended = started(PARENT, **orphans.marker(tmp_path, "mlflow"))
    spared = started(PARENT, **orphans.marker(tmp_path, "triton"))
    deadline = time.monotonic() + 10
    while len(orphans.left_behind(tmp_path)) < 4:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    orphans.end_left_behind(tmp_path, ["triton"])
    left = orphans.left_behind(tmp_path)
    assert ended.find() is None
    assert {name for name, _ in left} == {"triton"}
    assert spared.find() is not None
    assert len(left) == 2


def test_a_pid_that_is_another_process_now_is_not_ours(tmp_path, started):
    running = started()
    orphans.note(tmp_path, "redis", orphans.Note(Identity(running.pid, running.started_at - 100), "settings"))
    assert orphans.left_behind(tmp_path) == []
    assert orphans.end_left_behind(tmp_path) == 0
    assert running.find() is not None


def test_only_what_runs_by_the_same_settings_is_adopted(tmp_path, started):
    settings = StackSettings(home=tmp_path)
    running = started()
    orphans.note(tmp_path, "redis", orphans.Note(running, orphans.digest(settings)))
    wanted = {"redis", "postgres"}
    assert orphans.adoptable(tmp_path, wanted, orphans.digest(settings)) == {"redis": running}
    # Another profile runs the same processes.
    wider = settings.model_copy(update={"profile": "full"})
    assert orphans.adoptable(tmp_path, wanted, orphans.digest(wider)) == {"redis": running}
    other = settings.model_copy(update={"desk": {"ULTRATHINK_GATEWAY_BUDGET_MS": "30"}})
    assert orphans.adoptable(tmp_path, wanted, orphans.digest(other)) == {}
    assert orphans.adoptable(tmp_path, {"postgres"}, orphans.digest(settings)) == {}


def test_one_supervisor_a_home_folder(tmp_path):
    assert not orphans.is_supervised(tmp_path)
    first = orphans.hold(tmp_path)
    assert orphans.is_supervised(tmp_path)
    assert orphans.hold(tmp_path) is None
    first.close()
    assert not orphans.is_supervised(tmp_path)


def test_a_note_that_is_none_is_passed_over(tmp_path):
    path = orphans.note_path(tmp_path, "redis")
    path.parent.mkdir(parents=True)
    path.write_text("rubbish")
    assert orphans.noted(tmp_path) == {}


def test_the_lock_that_was_taken_for_a_supervisor_is_its_own(tmp_path, monkeypatch):
    """Whoever prepares a start holds the lock, and hands it on: no other start fits in between."""
    taken = orphans.hold(tmp_path)
    command = (
        "import sys, time; from pathlib import Path; from stack.supervision import orphans; "
        "lock = orphans.hold(Path(sys.argv[1])); print('held' if lock else 'not', flush=True); time.sleep(60)"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", command, tmp_path], pass_fds=(taken.fileno(),), stdout=subprocess.PIPE, text=True,
        env={**os.environ, orphans.LOCK: str(taken.fileno())}, cwd=ROOT,
    )  # fmt: skip
    try:
        taken.close()
        assert child.stdout.readline().strip() == "held"
        assert orphans.is_supervised(tmp_path)
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
    assert not orphans.is_supervised(tmp_path)


def test_each_is_asked_to_end_as_its_starter_would(tmp_path, started, monkeypatch):
    running = started()
    orphans.note(tmp_path, "postgres", orphans.Note(running, "x", signal.SIGINT, 15.0))
    asked = []
    monkeypatch.setattr(orphans, "end", lambda *given: asked.append(given))
    orphans.end_left_behind(tmp_path)
    assert asked == [(running, signal.SIGINT, 15.0)]
