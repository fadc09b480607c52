"""A service's end is noticed when it happens, and a stop waits for no probe."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from pathlib import Path

from stack.servers import runner as module
from stack.servers.runner import Runner
from stack.servers.server import Service
from stack.servers.status import READY, STOPPED


def service(command, folder: Path, probed) -> Service:
    def probe() -> str:
        probed.append(time.monotonic())
        return "1"

    return Service(
        name="one", endpoint="nowhere", ports=(), command=lambda: [sys.executable, "-c", command], probe=probe,
        memory_limit_mb=1024, folder=folder,
    )  # fmt: skip


def eventually(what, timeout_s=10.0):
    deadline = time.monotonic() + timeout_s
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@contextmanager
def running(folder):
    """A runner of a service that only sleeps, and when that was asked whether it is ready."""
    probed = []
    one = Runner(folder, service("import time; time.sleep(600)", folder, probed), {})
    one.start()
    try:
        yield one, probed
    finally:
        one.stop()
        one.join(10.0)


def test_a_service_that_ends_is_started_again_without_waiting_for_the_next_probe(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "PROBE_EVERY_S", 3600.0)
    with running(tmp_path) as (one, probed):
        eventually(lambda: one.status.state == READY)
        first = one.status.process
        first.find().kill()
        eventually(lambda: one.status.restarts == 1 and one.status.state == READY)
        assert one.status.process != first
        assert "137" in one.status.last_exit
        # Nothing but the two starts was asked for: no probe was due, and an end that was noticed is noticed once.
        time.sleep(0.2)
        assert len(probed) == 2
    assert one.status.state == STOPPED
    assert one.status.process.find() is None


def test_a_service_is_asked_now_and_then_while_it_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "PROBE_EVERY_S", 0.05)
    with running(tmp_path) as (one, probed):
        eventually(lambda: len(probed) > 5)
        assert one.status.memory_mb > 1
