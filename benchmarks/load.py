"""What the benchmarks send: runs of the load test's driver, and backlogs that nobody reads the decisions of."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping

from connectors.kafka.topics import TOPICS
from loadtest.measuring.result import RunResult
from loadtest.open_loop.child_process import DONE, READY, Child
from loadtest.open_loop.drive import Load
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
        sender = Child(
            "loadtest.open_loop.sender",
            {
                "bootstrap": bootstrap, "topic": TOPICS.ticks, "out": folder, "source": source, "speed": speed,
                "limit": ticks, "duration_s": None, "seed": 0,
            },
            lambda _: None,
        )  # fmt: skip
        try:
            sender.expect(READY)
            sender.tell("go")
            sender.expect(DONE)
        finally:
            sender.close()
