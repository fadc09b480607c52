"""A process that yields does so where the processor is shared among sessions, too."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from connectors.priority import yield_session

AUTOGROUP = Path("/proc/self/autogroup")
pytestmark = pytest.mark.skipif(not AUTOGROUP.is_file(), reason="this kernel shares nothing among sessions")
LOOK = """
import os
from pathlib import Path
from connectors.priority import yield_to_others
yield_to_others(7)
print(os.nice(0), Path("/proc/self/autogroup").read_text())
"""


def nice_of(text):
    return int(re.search(r"nice (-?\d+)", text)[1])


def test_who_leads_a_session_yields_with_all_of_it_and_who_does_not_leaves_others_alone():
    told = {
        own: subprocess.run(
            [sys.executable, "-c", LOOK], start_new_session=own, capture_output=True, text=True, check=True
        ).stdout
        for own in (True, False)
    }
    assert [text.split()[0] for text in told.values()] == ["7", "7"]
    assert nice_of(told[True]) == 7
    assert nice_of(told[False]) == nice_of(AUTOGROUP.read_text())


def test_a_process_that_is_gone_was_not_told():
    process = subprocess.Popen([sys.executable, "-c", ""], start_new_session=True)
    process.wait()
    assert yield_session(process.pid, 5) is False
