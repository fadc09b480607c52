"""Sessions that the children of a service begin by themselves yield as it does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from stack.supervision.yielding import Yielding
from tests.unit.connectors.test_priority import AUTOGROUP, nice_of
from tests.waiting import eventually

pytestmark = pytest.mark.skipif(not AUTOGROUP.is_file(), reason="this kernel shares nothing among sessions")
#: As PostgreSQL: one child begins a session, another stays in its parent's.
PARENT = """
import subprocess, sys
for own in (True, False):
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=own)
print("begun", flush=True)
input()
"""


@pytest.fixture
def parent():
    command = [sys.executable, "-c", PARENT]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        yield process
        for child in psutil.Process(process.pid).children():
            child.kill()
        process.kill()


def nice(pid):
    return nice_of(Path(f"/proc/{pid}/autogroup").read_text())


def test_children_that_lead_a_session_are_told_when_they_are_there(parent):
    yielding = Yielding(9)
    yielding.begin(parent.pid)
    assert (os.getpriority(os.PRIO_PROCESS, parent.pid), nice(parent.pid)) == (9, 9)
    assert parent.stdout.readline() == b"begun\n"
    children = [child.pid for child in psutil.Process(parent.pid).children()]
    leads = next(pid for pid in children if os.getsid(pid) == pid)
    assert nice(leads) == 0
    # As the supervisor does: again and again.
    eventually(lambda: yielding.look([parent.pid, *children]) or nice(leads) == 9)
    # One that has ended meanwhile is passed over.
    yielding.look([parent.pid, *children, 2**22 + 1])


def test_a_service_that_yields_to_nobody_is_left_as_it_is(parent):
    yielding = Yielding(0)
    yielding.begin(parent.pid)
    yielding.look([parent.pid])
    assert (os.getpriority(os.PRIO_PROCESS, parent.pid), nice(parent.pid)) == (0, 0)
