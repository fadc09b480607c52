"""What the supervisor tells: one file, written whole, read by every command."""

from __future__ import annotations

from pathlib import Path

import msgspec
from msgspec import Struct

from stack.servers.identity import Identity
from trading.files import write_atomically

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
    """The supervisor and its services."""

    supervisor: Identity
    services: list[ServiceStatus]

    @property
    def ready(self) -> bool:
        """Whether every service answers."""
        return all(s.state == READY for s in self.services)

    @property
    def alive(self) -> bool:
        """Whether the supervisor runs."""
        return self.supervisor.find() is not None


def status_path(home: Path) -> Path:
    """Where the status lies."""
    return home / "run" / "status.json"


def write_status(home: Path, status: StackStatus) -> None:
    """Publish the status."""
    write_atomically(status_path(home), msgspec.json.encode(status).decode())


def read_status(home: Path) -> StackStatus | None:
    """The latest status; None where no stack was started."""
    try:
        return msgspec.json.decode(status_path(home).read_bytes(), type=StackStatus)
    except FileNotFoundError:
        return None


def log_path(home: Path, service: str) -> Path:
    """A service's log."""
    return home / "logs" / f"{service}.log"
