"""What the supervisor tells: one file, written whole, read by every command."""

from __future__ import annotations

import time
from pathlib import Path

from msgspec import Struct

from stack.servers.identity import Identity
from trading.encoding import Records, encode
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
    """One row of the health matrix. `memory_mb` leaves shared pages out."""

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


class StackStatus(Struct):
    """The supervisor and its services.

    Attributes:
        supervisor: which process.
        services: each with its state.
        at_s: wall time of writing.
        problems: what is wrong with the machine, for people.
    """

    supervisor: Identity
    services: list[ServiceStatus]
    at_s: float = 0.0
    problems: list[str] = []

    @property
    def ready(self) -> bool:
        """Whether every service answers, as a supervisor that lives has said just now."""
        return all(s.state == READY for s in self.services) and self.fresh and self.alive

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
    """Publish the status."""
    write_atomically(status_path(home), encode(status).decode())


def read_status(home: Path) -> StackStatus | None:
    """The latest status; None where no stack was started, or what lies there is no status."""
    try:
        return _status.read(status_path(home).read_bytes())
    except (OSError, BadRecord):
        return None


def log_path(home: Path, service: str) -> Path:
    """A service's log."""
    return home / "logs" / f"{service}.log"
