"""Memory ceilings that the kernel keeps: a control group a service, where this process may make some.

The supervisor looks every two seconds and restarts what is above its ceiling; what grows faster than that would
take the machine's memory, and the kernel would choose whom to end. In a group of its own it ends itself.
Both forms of the kernel's interface are used: https://docs.kernel.org/admin-guide/cgroup-v2.html (memory.max,
memory.events) and https://docs.kernel.org/admin-guide/cgroup-v1/memory.html (memory.limit_in_bytes,
memory.oom_control).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

from msgspec import Struct

MB = 2**20
#: Of the ceiling that is watched: a group counts pages of files too, and the watch, which drains, acts first.
SLACK = 1.25
ROOT = Path("/sys/fs/cgroup")
#: Where whoever was in the root is put.
LEAF = "supervisor"


class Interface(Struct, frozen=True):
    """One form of the kernel's files: the limit's, and the one whose line `oom_kill N` counts ends."""

    limit: str
    events: str


V1 = Interface("memory.limit_in_bytes", "memory.oom_control")
V2 = Interface("memory.max", "memory.events")


class Groups:
    """A group a service, below one of ours."""

    def __init__(self, folder: Path, interface: Interface) -> None:
        """`folder` is there, and may hold groups."""
        self._folder, self._interface = folder, interface

    def place(self, name: str, pid: int, limit_mb: int) -> bool:
        """Put a process that was just started into its service's group; false where the kernel refuses."""
        group = self._folder / name
        try:
            group.mkdir(exist_ok=True)
            (group / self._interface.limit).write_text(str(int(limit_mb * SLACK) * MB))
            (group / "cgroup.procs").write_text(str(pid))
        except OSError:
            return False
        return True

    def holds(self, name: str, pid: int) -> bool:
        """Whether a process is in its service's group, as one is that an earlier supervisor put there."""
        try:
            return str(pid) in (self._folder / name / "cgroup.procs").read_text().split()
        except OSError:
            return False

    def kills(self, name: str) -> int | None:
        """How many of a service's processes the kernel has ended for want of memory; None where it has no group."""
        return count(self._folder / name / self._interface.events)

    def close(self) -> None:
        """Take away the groups that are empty."""
        for group in (*self._folder.glob("*/"), self._folder):
            with contextlib.suppress(OSError):
                group.rmdir()


def count(events: Path) -> int | None:
    """Of the line `oom_kill N`."""
    try:
        lines = events.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), None)


def find_groups(home: Path, root: Path = ROOT, membership: Path = Path("/proc/self/cgroup")) -> Groups | None:
    """Where groups may be made for this home folder's services; None where they may not.

    Args:
        home: of the stack.
        root: where the kernel's interface is.
        membership: the file that tells the groups of this process.
    """
    try:
        lines = [line.split(":", 2) for line in membership.read_text().splitlines()]
    except OSError:
        return None
    name = f"ultrathink-{hashlib.sha256(os.fsencode(home)).hexdigest()[:12]}"
    for _, controllers, path in lines:
        if "memory" in controllers.split(","):
            return made(root / "memory" / path.lstrip("/") / name, V1)
    for _, controllers, path in lines:
        # A container's own root, or where we have put ourselves before; elsewhere systemd is the only one who may
        # make groups, and starts no unit again whose group has groups of ours in it that live.
        if not controllers and path in {"/", f"/{LEAF}"}:
            return delegated(root, name)
    return None


def made(folder: Path, interface: Interface) -> Groups | None:
    """A group for groups, where it can be made."""
    try:
        folder.mkdir(exist_ok=True)
    except OSError:
        return None
    return Groups(folder, interface) if (folder / "cgroup.procs").exists() else None


def delegated(root: Path, name: str) -> Groups | None:
    """A group of that name in a root that is ours: one that holds processes may not limit its children's memory."""
    folder = root / name
    try:
        if "memory" not in (root / "cgroup.controllers").read_text().split():
            return None
        (root / LEAF).mkdir(exist_ok=True)
        for pid in (root / "cgroup.procs").read_text().split():
            (root / LEAF / "cgroup.procs").write_text(pid)
        (root / "cgroup.subtree_control").write_text("+memory")
        folder.mkdir(exist_ok=True)
        (folder / "cgroup.subtree_control").write_text("+memory")
    except OSError:
        return None
    return Groups(folder, V2)
