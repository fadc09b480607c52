"""A process that yields does so where the processor is shared among sessions, too."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from connectors.priority import yield_session

AUTOGROUP = Path("/proc/self/autogroup")
#: Of these tests' session: whoever runs them may be nice himself.
NICE = re.compile(r"nice (-?\d+)")
pytestmark = pytest.mark.skipif(
    not AUTOGROUP.is_file() or NICE.search(AUTOGROUP.read_text()) is None,
    reason="this kernel shares nothing among sessions",
)
LOOK = """
import os, sys
from pathlib import Path
from connectors.priority import yield_session, yield_to_others
os.nice(2)
before = int(sys.argv[2])
while before and not yield_session(os.getpid(), before): pass
yield_to_others(int(sys.argv[1]))
print(os.nice(0), Path("/proc/self/autogroup").read_text())
"""


def nice_of(text):
    return int(NICE.search(text)[1])


def looked(nice, before=0, *, own=True):
    """What a process and its session are after it has yielded so far; the session was told `before`."""
    told = subprocess.run(
        [sys.executable, "-c", LOOK, str(nice), str(before)], start_new_session=own, capture_output=True, text=True,
        check=True,
    ).stdout  # fmt: skip
    return int(told.split()[0]), nice_of(told)


def test_who_leads_a_session_yields_with_all_of_it_and_who_does_not_leaves_others_alone():
    here = os.nice(0) + 2
    assert looked(7) == (here + 7, here + 7)
    assert looked(7, own=False) == (here + 7, nice_of(AUTOGROUP.read_text()))


def test_who_yields_no_more_takes_back_nothing():
    assert looked(0, before=12) == (os.nice(0) + 2, 12)


def test_a_process_that_is_gone_need_not_be_told_again():
    process = subprocess.Popen([sys.executable, "-c", ""], start_new_session=True)
    process.wait()
    assert yield_session(process.pid, 5) is True
