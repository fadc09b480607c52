"""Processes known by pid and start time, so that a reused pid is never ended by mistake."""

from __future__ import annotations

import contextlib
import math
import os
import pwd
import signal
import threading
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import psutil
from msgspec import Struct

#: Between two looks whether what is waited for has become a corpse.
CORPSE_S = 0.2
#: Of a look at all processes.
FRESH_S = 1.0


class Identity(Struct, frozen=True, order=True):
    """A process that we started.

    Attributes:
        pid: its number.
        started_at: seconds from the machine's start to its own; where `boot` is empty, as older versions note it,
            since 1970.
        boot: which start of the machine. The time since 1970 moves with every step of the clock, and is no mark.
    """

    pid: int
    started_at: float
    boot: str = ""

    @classmethod
    def of(cls, pid: int) -> Identity:
        """Raises psutil.NoSuchProcess when it is gone."""
        return cls(pid, since_boot(pid), boot_id())

    def find(self) -> psutil.Process | None:
        """The process while it lives; None for a corpse or another process with its pid."""
        try:
            if self.boot and (self.boot != boot_id() or self.started_at != since_boot(self.pid)):
                return None
            process = psutil.Process(self.pid)
            if not self.boot and abs(process.create_time() - self.started_at) >= 0.05:
                return None
            return process if process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.NoSuchProcess:
            return None


@cache
def boot_id() -> str:
    """Which start of the machine this is; "?" where the kernel does not tell."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return "?"


def since_boot(pid: int) -> float:
    """Seconds from the machine's start to a process's: proc(5), stat, field 22. Raises psutil.NoSuchProcess."""
    try:
        told = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError) as error:
        raise psutil.NoSuchProcess(pid) from error
    # Its name, between parentheses, may hold anything.
    return int(told.rpartition(b")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")


def end(identity: Identity, stop_signal: int = signal.SIGTERM, timeout_s: float = 10.0) -> bool:
    """End a process that leads its own group, and all of the group. Returns False if it was gone."""
    process = identity.find()
    if process is None:
        return False
    with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
        process.send_signal(stop_signal)
        await_end(identity, process, timeout_s)
    if identity.find() is not None or group_alive(identity.pid):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(identity.pid, signal.SIGKILL)
        with contextlib.suppress(psutil.NoSuchProcess):
            await_end(identity, process, 5.0)
    return True


def await_end(identity: Identity, process: psutil.Process, timeout_s: float) -> None:
    """Until it has ended, or that long; a corpse, which only its parent can take away, is not waited for."""
    deadline = time.monotonic() + timeout_s
    while identity.find() is not None and (left := deadline - time.monotonic()) > 0:
        with contextlib.suppress(psutil.TimeoutExpired):
            process.wait(min(left, CORPSE_S))


def identity(user: str | None) -> dict[str, Any]:
    """Arguments of subprocess to run as a system user, with its groups and none of ours."""
    if user is None:
        return {}
    return {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": ()}


def group_alive(leader_pid: int) -> bool:
    """Whether any process of a group remains."""
    try:
        os.killpg(leader_pid, 0)
    except ProcessLookupError:
        return False
    return True


class Usage(Struct, frozen=True):
    """What a process and its descendants use.

    Attributes:
        memory_mb: resident, shared pages left out.
        cpu_s: processor time since each of them began.
    """

    memory_mb: float
    cpu_s: float


class Families:
    """Who has which children, looked up once for all services: each look reads every process of the machine."""

    def __init__(self, fresh_s: float = FRESH_S) -> None:
        """`fresh_s`: how long a look holds."""
        self._fresh_s, self._looked_s = fresh_s, -math.inf
        self._children: dict[int, list[psutil.Process]] = {}
        self._lock = threading.Lock()

    def usage(self, process: psutil.Process, *, anew: bool = False, sessions_apart: bool = False) -> Usage:
        """Of a process and its descendants. Raises psutil.NoSuchProcess when it is gone.

        Args:
            process: the eldest.
            anew: whoever was born since the last look counts too.
            sessions_apart: whoever is in another session than it does not count, nor do its descendants.
        """
        found = [measure(process)]
        with self._lock:
            if anew or time.monotonic() - self._looked_s >= self._fresh_s:
                self._look()
            left = list(self._children.get(process.pid, ()))
            counted = {process.pid}
            while left:
                child = left.pop()
                if child.pid in counted:
                    continue
                counted.add(child.pid)
                if sessions_apart and session_of(child.pid) != session_of(process.pid):
                    continue
                left += self._children.get(child.pid, ())
                with contextlib.suppress(psutil.NoSuchProcess):
                    found.append(measure(child))
        return Usage(sum(one.memory_mb for one in found), sum(one.cpu_s for one in found))

    def children(self, pid: int) -> Sequence[psutil.Process]:
        """Of a process, as the last look saw them; a corpse that nobody has waited for is one too."""
        with self._lock:
            return list(self._children.get(pid, ()))

    def _look(self) -> None:
        self._children.clear()
        for process in psutil.process_iter(["ppid"]):
            self._children.setdefault(process.info["ppid"], []).append(process)
        self._looked_s = time.monotonic()


def session_of(pid: int) -> int:
    """Its session's leader; 0 of a process that is gone."""
    try:
        return os.getsid(pid)
    except OSError:
        return 0


def measure(process: psutil.Process) -> Usage:
    """Of one process alone. Raises psutil.NoSuchProcess when it is gone."""
    with process.oneshot():
        memory, cpu = process.memory_info(), process.cpu_times()
    return Usage((memory.rss - getattr(memory, "shared", 0)) / 2**20, cpu.user + cpu.system)


def describe_exit(code: int) -> str:
    """An exit code in words: 137 is what a killed container shows for SIGKILL."""
    if code >= 0:
        name = " (killed, most often for memory)" if code == 137 else ""
        return f"exit {code}{name}"
    if code == -signal.SIGKILL:
        return "exit 137 (SIGKILL: out of memory, or killed by hand)"
    return f"{signal.Signals(-code).name}"
