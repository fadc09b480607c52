"""A flood of one event is cut short and counted; the level can be changed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import structlog

from connectors.logs import LogLevel, NeverFails, RateLimit
from tests.paths import ROOT


def test_a_flood_is_cut_and_the_next_window_says_how_much_was_left_out():
    now = [0.0]
    limit = RateLimit(burst=3, window_s=10.0, now_s=lambda: now[0])
    passed = 0
    for _ in range(20):
        try:
            limit(None, "warning", {"event": "gone"})
        except structlog.DropEvent:
            continue
        passed += 1
    assert passed == 3
    limit(None, "warning", {"event": "another"})
    now[0] = 10.0
    assert limit(None, "warning", {"event": "gone"})["left_out"] == 17


def test_the_level_drops_what_lies_below_it():
    level = LogLevel("warning")
    with pytest.raises(structlog.DropEvent):
        level(None, "info", {"event": "x"})
    level.set("debug")
    assert level(None, "info", {"event": "x"}) == {"event": "x"}
    with pytest.raises(ValueError, match="loud"):
        level.set("loud")


class Full:
    """A stream on a disk that is full."""

    def write(self, text):
        raise OSError(28, "No space left on device")

    def flush(self):
        raise ValueError("I/O operation on closed file")


def test_a_line_that_cannot_be_written_stops_nothing_and_is_counted():
    """Who stops the desk must not stop at telling it."""
    lines = NeverFails(Full())
    structlog.PrintLogger(lines).warning("orders are cancelled")
    assert lines.lost >= 2


def test_a_process_whose_log_cannot_be_written_goes_on():
    code = (
        "import structlog\n"
        "from connectors.logs import configure\n"
        "configure('info')\n"
        "structlog.get_logger().warning('x')\n"
        "print('went on')\n"
    )
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=full, text=True, check=False, cwd=ROOT
        )
    assert done.stdout == "went on\n"
