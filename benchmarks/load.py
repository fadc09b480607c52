"""What the benchmarks send: runs of the load test's driver, and backlogs that nobody reads the decisions of."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping

from loadtest.measuring.result import RunResult
from loadtest.open_loop.child_process import DONE, READY
from loadtest.open_loop.drive import Load, sender_of
from loadtest.open_loop.drive import drive as run


def drive(
    bootstrap: str,
    source: str,
    speed: str,
    ticks: int,
    *,
    warm_up_s: float = 2.0,
    servers: Mapping[str, int] | None = None,
) -> RunResult:
    """Send so many ticks of a source, again and again if it has fewer, and read every decision."""
    return run(Load(bootstrap, source, speed, ticks, warm_up_s=warm_up_s), servers=servers)


def send_only(bootstrap: str, source: str, speed: str, ticks: int) -> None:
    """Send ticks that nobody reads the decisions of: a backlog."""
    with tempfile.TemporaryDirectory() as folder:
        sender = sender_of(Load(bootstrap, source, speed, ticks), folder, lambda _: None)
        try:
            sender.expect(READY)
            sender.tell("go")
            sender.expect(DONE)
        finally:
            sender.close()
