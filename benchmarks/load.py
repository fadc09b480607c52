"""What the benchmarks send: runs of the load test's driver, and backlogs that nobody reads the decisions of."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from benchmarks.figures import say
from loadtest.measuring.result import RunResult
from loadtest.open_loop.child_process import DONE, READY
from loadtest.open_loop.drive import Load, sender_of
from loadtest.open_loop.drive import drive as run

DATA = Path(os.environ.get("ULTRATHINK_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
FEED = DATA / "binance_usdm_btcusdt_20240808.gz"
FEED_TICKS = 87_402


def recorded_feed() -> str:
    """The SOURCE of the recorded feed, or of the simulator where it is not here, which is said."""
    if FEED.is_file():
        return f"binance:{FEED}"
    say(f"{FEED} is not here: the simulator stands in, and the figures are not those of a real feed")
    return f"simulate:regimes?ticks={FEED_TICKS}"


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
