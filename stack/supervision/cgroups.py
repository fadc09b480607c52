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
import re
from pathlib import Path

from msgspec import Struct

from connectors.kernel import oom_kills

MB = 2**20
#: Of the ceiling that is watched: a group counts pages of files too, and the watch, which drains, acts first.
SLACK = 1.25
ROOT = Path("/sys/fs/cgroup")
PREFIX = "ultrathink-"
#: After a home's name: its groups that yield. A share counts among those of one folder, so these have their own.
YIELDING = "-yielding"
#: Folder of a home's groups, as `find_groups` calls it, and what lies in it.
OURS = re.compile(rf"(^|(?<=/)){PREFIX}[0-9a-f]{{12}}({YIELDING})?(/.*)?\Z")
#: Where whoever was in the root is put.
LEAF = "supervisor"


class Interface(Struct, frozen=True):
    """One form of the kernel's files: the limit's, and the one whose line `oom_kill N` counts ends.

    `share` is the file that says how much of the processors a group gets beside others, `least` the least of it:
    for kernels that know no group that is `IDLE`.
    """

    limit: str
    events: str
    share: str
    least: str


V1 = Interface("memory.limit_in_bytes", "memory.oom_control", "cpu.shares", "2")
V2 = Interface("memory.max", "memory.events", "cpu.weight", "1")
#: Whoever else wants a processor takes it from such a group at once, not when its turn is over.
IDLE = "cpu.idle"


class Groups:
    """A group a service, below one of ours."""

    def __init__(self, folder: Path, interface: Interface, yielding: Path | None = None) -> None:
        """`folder` is there, and may hold groups.

        `yielding`: where those that yield have theirs, of the processors; in the newer form, of memory too. None
        where none can be made.
        """
        self._folder, self._interface, self._yielding = folder, interface, yielding

    def place(self, name: str, pid: int, limit_mb: int, *, yields: bool = False) -> bool:
        """Put a process that was just started into its service's group; false where the kernel refuses.

        What `yields` gets what others leave of the processors, where the kernel keeps such a share.
        """
        apart = self._yielding if yields and let_yield(self._yielding, self._interface) else None
        # In the newer form a process is in one group of everything.
        group = (apart if apart is not None and self._interface is V2 else self._folder) / name
        try:
            group.mkdir(exist_ok=True)
            (group / self._interface.limit).write_text(str(int(limit_mb * SLACK) * MB))
            (group / "cgroup.procs").write_text(str(pid))
        except OSError:
            return False
        if apart is not None and self._interface is V1:
            with contextlib.suppress(OSError):
                (apart / name).mkdir(exist_ok=True)
                (apart / name / "cgroup.procs").write_text(str(pid))
        return True

    def holds(self, name: str, pid: int) -> bool:
        """Whether a process is in its service's group, as one is that an earlier supervisor put there."""
        try:
            return str(pid) in (self._group(name) / "cgroup.procs").read_text().split()
        except OSError:
            return False

    def kills(self, name: str) -> int | None:
        """How many of a service's processes the kernel has ended for want of memory; None where it has no group."""
        return oom_kills(self._group(name) / self._interface.events)

    def remove(self, name: str) -> None:
        """Take a service's group away, if nobody lives in it."""
        for folder in self._folders():
            with contextlib.suppress(OSError):
                (folder / name).rmdir()

    def sweep(self) -> None:
        """Take away the services' groups that are empty, as one that was ended in no time leaves them."""
        for group in (group for folder in self._folders() for group in folder.glob("*/")):
            with contextlib.suppress(OSError):
                group.rmdir()

    def close(self) -> None:
        """Take away all groups that are empty."""
        self.sweep()
        for folder in self._folders():
            with contextlib.suppress(OSError):
                folder.rmdir()

    def _group(self, name: str) -> Path:
        """Where a service's memory is counted."""
        apart = self._yielding if self._interface is V2 else None
        return apart / name if apart is not None and (apart / name).exists() else self._folder / name

    def _folders(self) -> list[Path]:
        """Where its groups are."""
        return [one for one in (self._folder, self._yielding) if one is not None]


def let_yield(folder: Path | None, interface: Interface) -> bool:
    """A folder of groups, all of which yield; false where there is none, or the kernel refuses."""
    if folder is None:
        return False
    with contextlib.suppress(OSError):
        folder.mkdir(exist_ok=True)
        if interface is V2:
            # Also where it was taken away in between.
            (folder / "cgroup.subtree_control").write_text("+memory")
        (folder / IDLE).write_text("1")
        return True
    with contextlib.suppress(OSError):
        (folder / interface.share).write_text(interface.least)
        return True
    return False


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
    name = f"{PREFIX}{hashlib.sha256(os.fsencode(home)).hexdigest()[:12]}"
    places = {one: path.lstrip("/") for _, controllers, path in lines for one in controllers.split(",")}
    if "memory" in places:
        yielding = root / "cpu" / beside_ours(places["cpu"]) / f"{name}{YIELDING}" if "cpu" in places else None
        return made(root / "memory" / beside_ours(places["memory"]) / name, V1, yielding)
    for _, controllers, told in lines:
        path = f"/{beside_ours(told.lstrip('/'))}"
        # A container's own root, or where we have put ourselves before; elsewhere systemd is the only one who may
        # make groups, and starts no unit again whose group has groups of ours in it that live.
        if not controllers and path in {"/", f"/{LEAF}"}:
            return delegated(root, name)
    return None


def beside_ours(path: str) -> str:
    """Where a process that is in one of our groups makes others: what is below one counts for its ceiling, too."""
    found = OURS.search(path)
    return path[: found.start()] if found else path


def made(folder: Path, interface: Interface, yielding: Path | None = None) -> Groups | None:
    """A group for groups, where it can be made."""
    try:
        folder.mkdir(exist_ok=True)
    except OSError:
        return None
    return Groups(folder, interface, yielding) if (folder / "cgroup.procs").exists() else None


def delegated(root: Path, name: str) -> Groups | None:
    """A group of that name in a root that is ours: one that holds processes may not limit its children's memory."""
    folder, yielding = root / name, root / f"{name}{YIELDING}"
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
    # Shares of the processors, where they are ours to give.
    with contextlib.suppress(OSError):
        (root / "cgroup.subtree_control").write_text("+cpu")
        yielding.mkdir(exist_ok=True)
        (yielding / "cgroup.subtree_control").write_text("+memory")
        return Groups(folder, V2, yielding)
    return Groups(folder, V2)
