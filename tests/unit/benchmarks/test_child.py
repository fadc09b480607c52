"""Whoever interrupts a benchmark, what it began ends first, and a clone is told nothing of its caller's desk."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from benchmarks import child, drill
from tests.signals import handled
from tests.waiting import eventually

#: Ends at the first signal, and takes a moment for it; a second one would break that off.
TIDIES = """
import pathlib, signal, sys, time
place = pathlib.Path(sys.argv[1])
def ends(*_):
    (place / "told").write_text((place / "told").read_text() + "x" if (place / "told").exists() else "x")
signal.signal(signal.SIGTERM, ends)
signal.signal(signal.SIGINT, ends)
(place / "began").touch()
while not (place / "told").exists():
    time.sleep(0.02)
time.sleep(0.5)
(place / "tidy").touch()
"""
STUBBORN = """
import pathlib, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
pathlib.Path(sys.argv[1]).touch()
time.sleep(600)
"""


def test_what_a_command_prints_and_its_exit_code_come_back(tmp_path):
    code, told = child.printed(
        [sys.executable, "-c", "import os; print(os.getcwd()); raise SystemExit(3)"], tmp_path
    )
    assert (code, told.decode().strip()) == (3, str(tmp_path))


@pytest.fixture
def interruptible():
    """As the benchmarks' own mains; SIGINT is ignored by whatever a shell has put in the background."""
    with handled(signal.SIGTERM, signal.default_int_handler):
        yield


@pytest.mark.usefixtures("interruptible")
def test_one_that_is_interrupted_is_told_once_and_ends_what_it_began(tmp_path):
    def interrupt():
        eventually((tmp_path / "began").exists, 20)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        child.printed([sys.executable, "-c", TIDIES, str(tmp_path)])
    assert (tmp_path / "tidy").exists()
    assert (tmp_path / "told").read_text() == "x"


@pytest.mark.usefixtures("interruptible")
def test_one_that_does_not_end_is_ended(tmp_path):
    command = [sys.executable, "-c", STUBBORN, str(tmp_path / "began")]

    def interrupt():
        eventually((tmp_path / "began").exists, 20)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        child.printed(command, ends_s=0.2)


def test_a_clone_is_told_nothing_of_the_callers_desk_python_make_or_git(monkeypatch):
    for name in ("ULTRATHINK_HOME", "PYTHONPATH", "PYTHONHOME", "MAKEFLAGS", "GIT_DIR", "VENV", "DATA", "DEMO_ARGS",
                 "VIRTUAL_ENV", "PIP_TARGET", "UV_PROJECT_ENVIRONMENT", "BASH_ENV", "OTEL_EXPORTER_OTLP_ENDPOINT",
                 "DATABASE_URL", "AWS_SECRET_ACCESS_KEY"):  # fmt: skip
        monkeypatch.setenv(name, "the caller's")
    for name in ("LC_ALL", "https_proxy", "NO_PROXY", "SSL_CERT_FILE", "PIP_FIND_LINKS", "TMPDIR"):
        monkeypatch.setenv(name, "the machine's")
    told = drill.surroundings()
    assert "the caller's" not in told.values()
    assert list(told.values()).count("the machine's") == 6
    assert told["PATH"] == os.environ["PATH"]


def test_what_is_not_committed_is_in_no_clone(monkeypatch, tmp_path):
    monkeypatch.setattr(drill, "ROOT", tmp_path)
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@example.org"]
    (tmp_path / "docs/drill").mkdir(parents=True)
    for name in ("docs/proof.json", "docs/drill/desk.png", "code.py"):
        (tmp_path / name).write_text("first")
    subprocess.run([*git, "init", "-q"], cwd=tmp_path, check=True)
    subprocess.run([*git, "add", "-A"], cwd=tmp_path, check=True)
    subprocess.run([*git, "commit", "-qm", "x"], cwd=tmp_path, check=True)
    monkeypatch.setattr(drill, "NEEDED_GB", 10**9)
    # What `make proof` has written meanwhile is no reason: the next one is, that there is no room.
    (tmp_path / "docs/proof.json").write_text("second")
    with pytest.raises(drill.ConfigurationError, match="are needed: name another folder in TMPDIR"):
        drill.drill([])
    (tmp_path / "code.py").write_text("second")
    with pytest.raises(drill.ConfigurationError, match=r"this is not:\s+M code.py"):
        drill.drill([])
