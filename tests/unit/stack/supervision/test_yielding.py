"""Sessions that the children of a service begin by themselves yield as it does."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path

import psutil
import pytest

from stack.supervision.yielding import Yielding
from tests.unit.connectors import test_priority
from tests.unit.connectors.test_priority import nice_of
from tests.waiting import eventually

pytestmark = test_priority.pytestmark
NOBODY = 65_534
#: As PostgreSQL: a child begins a session, but not at once; another stays in its parent's.
CHILD = "import os, time; input(); own and os.setsid(); print('begun', flush=True); time.sleep(60)"


class Child:
    def __init__(self, *, own):
        command = [sys.executable, "-c", f"own = {own}; {CHILD}"]
        # What leads its group may begin no session.
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.pid = self.process.pid

    def begin(self):
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == b"begun\n"


@pytest.fixture
def child():
    found = {own: Child(own=own) for own in (True, False)}
    yield found
    for one in found.values():
        one.process.kill()
        one.process.communicate()


def nice(pid):
    return nice_of(Path(f"/proc/{pid}/autogroup").read_text())


def test_one_that_begins_a_session_after_it_was_seen_is_told(child):
    leads, stays = child[True], child[False]
    yielding, here = Yielding(9), nice(stays.pid)
    yielding.look([leads.pid, stays.pid])
    assert nice(leads.pid) == here
    leads.begin()
    stays.begin()
    assert nice(leads.pid) == 0
    # As the supervisor does, again and again: who is not root may tell ten a second. One has ended meanwhile.
    eventually(lambda: yielding.look([leads.pid, stays.pid, 2**22 + 1]) or nice(leads.pid) == 9)
    assert nice(stays.pid) == here


def test_what_is_started_yields_with_its_session():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True) as one:
        yielding = Yielding(19)
        yielding.begin(one.pid)
        assert os.getpriority(os.PRIO_PROCESS, one.pid) == 19
        eventually(lambda: yielding.look([one.pid]) or nice(one.pid) == 19)
        one.communicate(b"\n")


def test_a_service_that_yields_to_nobody_is_left_as_it_is(child):
    child[True].begin()
    yielding, before = Yielding(0), psutil.Process(child[True].pid).nice()
    yielding.begin(child[True].pid)
    yielding.look([child[True].pid])
    assert (os.getpriority(os.PRIO_PROCESS, child[True].pid), nice(child[True].pid)) == (before, 0)


@pytest.mark.skipif(os.getuid() != 0, reason="another user's process is needed")
def test_what_may_not_be_made_to_yield_is_started_all_the_same(child):
    with warnings.catch_warnings():
        # A child that does three things needs none of our threads.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        try:
            os.setuid(NOBODY)
            Yielding(9).begin(child[True].pid)
        finally:
            os._exit(1 if sys.exc_info()[0] else 0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
