"""The process that keeps the services running: `python -m stack.supervision.supervisor HOME`."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from connectors.kafka.identity import ADMIN, act_as
from stack.processes.environment import forget_told
from stack.servers.identity import Identity
from stack.servers.server import Service, members
from stack.servers.settings import load
from stack.supervision import requests
from stack.supervision.availability import DAY_S, HOUR_S, Availability
from stack.supervision.catalogue import services
from stack.supervision.cgroups import find_groups
from stack.supervision.disk import DiskWatch, reduce_desk
from stack.supervision.log_rotation import LogRotation
from stack.supervision.memory import near_ceiling
from stack.supervision.orphans import adoptable, digest, hold
from stack.supervision.runner import Runner
from stack.supervision.status import READY, StackStatus, write_status
from trading.errors import ConfigurationError

WRITE_EVERY_S = 0.2


class Supervisor:
    """The runners of a home folder's services, and what is told of them."""

    def __init__(self, home: Path) -> None:
        """Prepare. Raises ConfigurationError where the home folder's settings cannot be read."""
        self._home, self._settings = home, load(home)
        self._runners: dict[str, Runner] = {}
        #: Those that the profile has no more, while they drain.
        self._leaving: dict[str, Runner] = {}
        self._identity = Identity.of(os.getpid())
        self._disk = DiskWatch(home, self._settings.least_disk_mb, reduce_desk(self._settings))
        self._logs = LogRotation(home / "logs", self._settings.log_mb, self._settings.log_days)
        self._available = Availability(home, time.time(), time.clock_gettime(time.CLOCK_BOOTTIME))
        self._groups = find_groups(home)
        #: What keeps new settings from being applied, and what failed in the last turn.
        self._problem = self._failed = ""

    def run(self, stopping: threading.Event) -> None:
        """Keep everything running until `stopping`, then end it, dependants first."""
        found = services(self._settings)
        by = digest(self._settings)
        running = adoptable(self._home, [service.name for service in found], by)
        for service in found:
            left = running.get(service.name)
            self._runners[service.name] = Runner(self._home, service, self._runners, by, left, self._groups)
        self._available.went_on(running, time.time())
        self._publish()
        for runner in list(self._runners.values()):
            runner.start()
        while not stopping.wait(WRITE_EVERY_S):
            self._turn()
        # What follows is meant: it is no outage.
        self._available.end()
        stop_in_order([*self._leaving.values(), *self._runners.values()])
        if self._groups is not None:
            self._groups.close()
        self._publish()

    def _turn(self) -> None:
        failed = ""
        for step in (self._take_requests, self._look, self._note, self._publish):
            try:
                step()
            except Exception as error:  # noqa: BLE001 - whatever it is, somebody must go on supervising
                failed = f"{type(error).__name__}: {error}"
                say(failed)
        self._failed = failed

    def _take_requests(self) -> None:
        for request in requests.take(self._home):
            self._carry_out(request)

    def _look(self) -> None:
        self._disk.look(time.monotonic())
        self._logs.look(time.monotonic())

    def _note(self) -> None:
        rows = [runner.status for runner in list(self._runners.values())]
        ready = {row.name: row.state == READY for row in rows}
        held, booted_s = {row.name for row in rows if row.held}, time.clock_gettime(time.CLOCK_BOOTTIME)
        self._available.note(ready, held, time.time(), booted_s)

    def _carry_out(self, request: requests.Request) -> None:
        if request.action == "apply":
            self._apply()
        elif request.name in self._runners:
            self._runners[request.name].restart(request.reason)

    def _apply(self) -> None:
        """Start what the settings ask for now and end what they do not; what runs and stays is left alone."""
        if self._leaving:
            # What drains may be wanted again: first it ends, then it is started.
            requests.ask(self._home, "apply")
            return
        try:
            settings = load(self._home)
            wanted = {service.name: service for service in services(settings)}
        except ConfigurationError as error:
            self._problem = f"new settings are not applied: {error}"
            return
        self._settings, self._problem = settings, ""
        gone = [name for name in self._runners if name not in wanted]
        for name in gone:
            # Before the others lose sight of it: nobody begins what is about to end.
            self._runners[name].withdraw()
        self._leaving = {name: self._runners.pop(name) for name in gone}
        # Whoever drains takes his time, and the rest is told of meanwhile.
        threading.Thread(target=self._end, args=(list(self._leaving.values()),), name="ending", daemon=True).start()
        by, known = digest(settings), self._runners
        new = [service for service in wanted.values() if service.name not in known]
        fresh = [Runner(self._home, service, known, by, groups=self._groups) for service in new]
        # Runners look at one another by their names: all must be known before one starts.
        self._runners.update({runner.service.name: runner for runner in fresh})
        for runner in fresh:
            runner.start()
        if "prometheus" in known:
            # It scrapes others now.
            known["prometheus"].restart("the profile has changed")

    def _end(self, leaving: Sequence[Runner]) -> None:
        try:
            stop_in_order(leaving)
        finally:
            self._leaving = {}

    def _publish(self) -> None:
        now_s = time.time()
        for name, runner in list(self._runners.items()):
            runner.status.degraded = runner.degraded()
            runner.status.hour = self._available.share(name, HOUR_S, now_s)
            runner.status.day = self._available.share(name, DAY_S, now_s)
        # Those that drain still hold their ports.
        rows = [runner.status for runner in [*self._runners.values(), *self._leaving.values()]]
        near = [near_ceiling(s.name, s.memory_mb, s.memory_limit_mb) for s in rows]
        problems = [
            text for text in (self._disk.problem, self._logs.problem, self._problem, self._failed, *near) if text
        ]
        try:
            write_status(self._home, StackStatus(self._identity, rows, now_s, problems, self._settings.profile))
        except OSError as error:
            say(f"the status cannot be written: {error}")


def supervise(home: Path) -> None:
    """Run every service of the home folder until SIGTERM, then end them, dependants first.

    Nothing but SIGTERM ends it: what cannot be written is written later.
    """
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    if (lock := hold(home)) is None:
        raise SystemExit(f"another supervisor runs in {home}")
    with lock:
        keep_running(home, stopping)


def keep_running(home: Path, stopping: threading.Event) -> None:
    """What the supervisor of a home folder does, who must be the only one."""
    supervisor = Supervisor(home)
    # They are among the settings that are kept, and would hide those that are changed later.
    forget_told()
    act_as(ADMIN)
    supervisor.run(stopping)


def say(text: str) -> None:
    """To the log, if that can be written."""
    with contextlib.suppress(OSError):
        sys.stderr.write(text + "\n")
        sys.stderr.flush()


def stop_in_order(runners: Sequence[Runner]) -> None:
    """End whom nobody requires, then whom nobody requires any more, each group at once."""
    left = list(runners)
    while left:
        group = unrequired([runner.service for runner in left])
        now = [runner for runner in left if runner.service.name in group]
        for runner in now:
            runner.stop()
        for runner in now:
            if runner.ident is not None:
                runner.join()
        left = [runner for runner in left if runner not in now]


def unrequired(running: Sequence[Service]) -> set[str]:
    """Names of those that none of the others requires or uses; all of them where they go round in a circle."""
    names = [service.name for service in running]
    needed = {
        member
        for service in running
        for name in (*service.requires, *service.uses)
        for member in members(name, names)
        if member != service.name
    }
    return set(names) - needed or set(names)


if __name__ == "__main__":
    supervise(Path(sys.argv[1]))
