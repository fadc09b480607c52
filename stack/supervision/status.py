"""What the supervisor tells: one file, written whole, read by every command."""

from __future__ import annotations

import time
from pathlib import Path

from msgspec import Struct

from stack.servers.identity import Identity
from trading.encoding import Records, encode, safe_text
from trading.errors import BadRecord
from trading.files import write_atomically

#: Written five times a second; so old, it tells nothing of now.
STALE_S = 10.0
#: States of a service, in the order of its life.
WAITING, STARTING, READY, BACKING_OFF, FAILED, STOPPED = (
    "waiting",
    "starting",
    "ready",
    "backing off",
    "failed",
    "stopped",
)


class ServiceStatus(Struct):
    """One row of the health matrix.

    Attributes:
        memory_mb: of the process and its children, shared pages left out.
        memory_limit_mb: its ceiling.
        cpu_percent: of one core, since the last look but one.
        restarts: since the supervisor started.
        last_exit: how it ended last.
        detail: what it waits for, or why it does not answer.
        held: why it is not started, which is no failure; "" where it may run.
        busy: whether it answers and has work to do before it is ready.
        degraded: what does not work although it answers, and because of what.
        out_of_memory: ends for want of memory, since the supervisor started.
        hour, day: share of the last hour and day, as far as the stack was meant to be up, in which it was ready;
            None where that is not known yet.
    """

    name: str
    state: str = WAITING
    endpoint: str = ""
    version: str = ""
    memory_mb: float = 0.0
    memory_limit_mb: int = 0
    uptime_s: float = 0.0
    restarts: int = 0
    last_exit: str = ""
    detail: str = ""
    process: Identity | None = None
    cpu_percent: float = 0.0
    held: str = ""
    busy: bool = False
    degraded: list[str] = []
    hour: float | None = None
    day: float | None = None
    out_of_memory: int = 0


class StackStatus(Struct):
    """The supervisor and its services.

    Attributes:
        supervisor: which process.
        services: each with its state.
        at_s: wall time of writing.
        problems: what is wrong with the machine, for people.
        profile: which of the processes are meant to run.
    """

    supervisor: Identity
    services: list[ServiceStatus]
    at_s: float = 0.0
    problems: list[str] = []
    profile: str = ""

    @property
    def ready(self) -> bool:
        """Whether every service answers, as a supervisor that lives has said just now."""
        return all(s.state == READY for s in self.services) and self.fresh and self.alive

    @property
    def settled(self) -> bool:
        """Whether every service answers that may run, as a supervisor that lives has said just now."""
        return all(s.state == READY or s.held for s in self.services) and self.fresh and self.alive

    @property
    def fresh(self) -> bool:
        """Whether it was written just now: a supervisor whose disk is full cannot tell what has changed."""
        return abs(time.time() - self.at_s) < STALE_S

    @property
    def alive(self) -> bool:
        """Whether the supervisor runs."""
        return self.supervisor.find() is not None


_status = Records(StackStatus)


def status_path(home: Path) -> Path:
    """Where the status lies."""
    return home / "run" / "status.json"


def write_status(home: Path, status: StackStatus) -> None:
    """Publish the status. Names of files may hold bytes that are no letters: they are escaped."""
    for one in status.services:
        one.detail, one.last_exit, one.held = safe_text(one.detail), safe_text(one.last_exit), safe_text(one.held)
        one.degraded = [safe_text(text) for text in one.degraded]
    status.problems = [safe_text(text) for text in status.problems]
    write_atomically(status_path(home), encode(status).decode())


def read_status(home: Path) -> StackStatus | None:
    """The latest status; None where no stack was started, or what lies there is no status."""
    try:
        return _status.read(status_path(home).read_bytes())
    except (OSError, BadRecord):
        return None
