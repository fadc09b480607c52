"""The process that keeps the services running: `python -m stack.servers.supervisor HOME`."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from pathlib import Path

from connectors.kafka.identity import ADMIN, act_as
from stack.servers.catalogue import services
from stack.servers.disk import DiskWatch, reduce_desk
from stack.servers.identity import Identity
from stack.servers.runner import Runner
from stack.servers.settings import load
from stack.servers.status import StackStatus, write_status

WRITE_EVERY_S = 0.2


def supervise(home: Path) -> None:
    """Run every service of the home folder until SIGTERM, then end them, dependants first.

    Nothing but SIGTERM ends it: what cannot be written is written later.
    """
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    settings = load(home)
    act_as(ADMIN)
    runners: dict[str, Runner] = {}
    for service in services(settings):
        runners[service.name] = Runner(home, service, runners)
    identity = Identity.of(os.getpid())
    disk = DiskWatch(home, settings.least_disk_mb, reduce_desk(settings))

    def publish() -> None:
        problems = [disk.problem] if disk.problem else []
        status = StackStatus(identity, [r.status for r in runners.values()], time.time(), problems)
        try:
            write_status(home, status)
        except OSError as error:
            say(f"the status cannot be written: {error}")

    publish()
    for runner in runners.values():
        runner.start()
    while not stopping.wait(WRITE_EVERY_S):
        disk.look(time.monotonic())
        publish()
    stop_in_order(runners)
    publish()


def say(text: str) -> None:
    """To the log, if that can be written."""
    with contextlib.suppress(OSError):
        sys.stderr.write(text + "\n")
        sys.stderr.flush()


def stop_in_order(runners: dict[str, Runner]) -> None:
    """End what requires others first, then the rest, each group at once."""
    required = {name for runner in runners.values() for name in runner.service.requires}
    for group in (
        [r for r in runners.values() if r.service.name not in required],
        [r for r in runners.values() if r.service.name in required],
    ):
        for runner in group:
            runner.stop()
        for runner in group:
            runner.join()


if __name__ == "__main__":
    supervise(Path(sys.argv[1]))
