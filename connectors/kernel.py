"""What the kernel tells of processes that it has ended."""

from __future__ import annotations

from pathlib import Path

#: Of the whole machine.
VMSTAT = Path("/proc/vmstat")


def oom_kills(path: Path = VMSTAT) -> int | None:
    """How many processes were ended for want of memory, by a file's line `oom_kill N`; None where it has none."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), None)
