"""What a process used of its ceiling, and whether the kernel ended one for want of memory."""

from __future__ import annotations

from pathlib import Path

from stack.servers.identity import describe_exit
from stack.supervision.cgroups import count

#: Share of its ceiling from which a process is reported.
NEAR = 0.9
VMSTAT = Path("/proc/vmstat")
KILLED = (-9, 137)


def oom_kills(vmstat: Path = VMSTAT) -> int | None:
    """How many processes the kernel has ended for want of memory since it booted; None where it does not tell."""
    return count(vmstat)


def exit_in_words(code: int, before: int | None, now: int | None) -> str:
    """An exit code for people; of a SIGKILL whether it was for want of memory, as far as the kernel tells.

    Args:
        code: as `subprocess` gives it: minus the signal's number.
        before, now: how many the kernel had ended for want of memory when the process started, and now.
    """
    if code in KILLED and before is not None and now is not None:
        if now > before:
            return "exit 137 (out of memory: the kernel ended it)"
        return "exit 137 (SIGKILL by hand: the kernel ended nothing for want of memory)"
    return describe_exit(code)


def near_ceiling(name: str, used_mb: float, limit_mb: int) -> str:
    """What to say of a process that comes near its ceiling; "" where it does not."""
    if used_mb < NEAR * limit_mb:
        return ""
    return f"{name} uses {used_mb:,.0f} of {limit_mb:,} MB: above that it is restarted"
