"""What the supervisor must know of a server."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


class NotReady(Exception):
    """The server does not answer in its own protocol yet, and why."""


def nothing() -> None:
    """The default for a step that a server does not need."""


@dataclass(frozen=True)
class Service:
    """A server of the stack.

    Attributes:
        name: as shown, and the name of its log.
        endpoint: where clients find it.
        ports: what it listens on; checked before anything is started.
        command, environment: built anew for every start.
        probe: asks the server in its own protocol; returns its version or raises NotReady.
        memory_limit_mb: above it the supervisor restarts the server, before the machine must.
        prepare: folders, configuration and first initialisation; idempotent.
        on_ready: what has to exist in the server; idempotent, after every start.
        nice: how far it yields to those that decide.
        user: the system user to run as, where the server refuses root.
    """

    name: str
    endpoint: str
    ports: Sequence[int]
    command: Callable[[], Sequence[str]]
    probe: Callable[[], str]
    memory_limit_mb: int
    environment: Callable[[], Mapping[str, str]] = dict
    prepare: Callable[[], None] = nothing
    on_ready: Callable[[], None] = nothing
    requires: Sequence[str] = ()
    stop_signal: int = signal.SIGTERM
    stop_timeout_s: float = 15.0
    start_timeout_s: float = 90.0
    nice: int = 0
    user: str | None = None
    folder: Path | None = None
