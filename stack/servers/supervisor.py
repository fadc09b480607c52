"""The process that keeps the services running: `python -m stack.servers.supervisor HOME`."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

from stack.servers.catalogue import services
from stack.servers.identity import Identity
from stack.servers.runner import Runner
from stack.servers.settings import load
from stack.servers.status import StackStatus, write_status

WRITE_EVERY_S = 0.2


def supervise(home: Path) -> None:
    """Run every service of the home folder until SIGTERM, then end them, dependants first."""
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    runners: dict[str, Runner] = {}
    for service in services(load(home)):
        runners[service.name] = Runner(home, service, runners)
    identity = Identity.of(os.getpid())

    def publish() -> None:
        write_status(home, StackStatus(identity, [r.status for r in runners.values()]))

    publish()
    for runner in runners.values():
        runner.start()
    while not stopping.wait(WRITE_EVERY_S):
        publish()
    stop_in_order(runners)
    publish()


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
