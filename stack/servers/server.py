"""What the supervisor must know of a process."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil


class NotReady(Exception):
    """The process does not answer in its own protocol yet, and why."""


class AtWork(NotReady):
    """It answers, and has work to do before it is ready, however long: nobody ends it for that."""


def nothing() -> None:
    """The default for a step that a process does not need."""


def no_reason() -> str:
    """The default of `hold`: it may start."""
    return ""


def never_broken(_: Sequence[psutil.Process]) -> str:
    """The default of `broken`: what answers needs none of its children."""
    return ""


def no_troubles() -> Sequence[str]:
    """The default of `troubles`: what answers is well."""
    return ()


@dataclass(frozen=True)
class Service:
    """A process of the stack: a server, or one of our own.

    Attributes:
        name: as shown, and the name of its log.
        endpoint: where clients find it.
        ports: what it listens on; checked before anything is started.
        command, environment: built anew for every start.
        probe: asks it in its own protocol; returns its version or raises NotReady.
        memory_limit_mb: above it the supervisor restarts the process, before the machine must.
        prepare: folders, configuration and first initialisation; idempotent.
        on_ready: what has to exist in the server; idempotent, after every start.
        requires: names of those that must be ready before it starts; of a group, as `kafka` is of `kafka-1` and
            `kafka-2`, more than half.
        uses: names of those that it works worse without.
        hold: why it should not start now, for people; "" where it may. It is then no failure that it does not run.
        troubles: what does not work although it answers, for people; asked as often as `probe`.
        broken: by its children, those that died among them: why it must be started again although it answers, for
            people; "" where it need not.
        nice: how far it yields to those that decide.
        user: the system user to run as, where the server refuses root.
        sessions_apart: whether what it starts in sessions of its own is not counted with it: it has ceilings of
            its own, and outlives it.
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
    uses: Sequence[str] = ()
    hold: Callable[[], str] = no_reason
    troubles: Callable[[], Sequence[str]] = no_troubles
    broken: Callable[[Sequence[psutil.Process]], str] = never_broken
    stop_signal: int = signal.SIGTERM
    stop_timeout_s: float = 15.0
    start_timeout_s: float = 90.0
    nice: int = 0
    user: str | None = None
    folder: Path | None = None
    sessions_apart: bool = False


def members(name: str, names: Sequence[str]) -> list[str]:
    """Whom a name in `requires` or `uses` means: itself, or all of the group that it names."""
    return [name] if name in names else [other for other in names if other.startswith(f"{name}-")]
