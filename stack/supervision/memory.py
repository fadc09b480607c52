"""What a process used of its ceiling, and whether the kernel ended one for want of memory."""

from __future__ import annotations

import time

from connectors.kernel import oom_kills
from stack.servers.identity import describe_exit
from stack.supervision.cgroups import Groups

#: Share of its ceiling from which a process is reported.
NEAR = 0.9
KILLED = (-9, 137)
#: Who ends so was asked to, or had done its work: not for a part that it lost.
ON_PURPOSE = (0, -2, 130, -15, 143)
#: A part that the kernel ended so long ago at most is why its service is found broken.
LATELY_S = 10.0


class MemoryKills:
    """Whom the kernel ended for want of memory, look by look; of one service where that has a group of its own."""

    def __init__(self, groups: Groups | None, name: str) -> None:
        """`groups` of the kernel, `name` of the service; without groups the whole machine's count is looked at."""
        self._groups, self._name = groups, name
        self._is_grouped = False
        #: At the last look but one, and at the last: the kernel counts one before it is gone.
        self._earlier: int | None = None
        self._last: int | None = None
        self._part_ended_s = float("-inf")

    def begin(self, pid: int, limit_mb: int, *, is_new: bool) -> None:
        """A process was started, and is put into its group; or it was adopted, and may be in one."""
        if self._groups is not None:
            if is_new:
                self._is_grouped = self._groups.place(self._name, pid, limit_mb)
            else:
                self._is_grouped = self._groups.holds(self._name, pid)
        self._earlier = self._last = self._count()
        self._part_ended_s = float("-inf")

    def look(self) -> int:
        """How many parts of the service were ended since the last look, while it lived on."""
        self._earlier, self._last = self._last, self._count()
        if not self._is_grouped or self._earlier is None or self._last is None or self._last <= self._earlier:
            return 0
        self._part_ended_s = time.monotonic()
        return self._last - self._earlier

    def ended_a_part_lately(self) -> bool:
        """Whether what is missing now may be what was ended then."""
        return time.monotonic() - self._part_ended_s < LATELY_S

    def exit_in_words(self, code: int | None) -> str:
        """How the service ended, for people; `code` is None of one that an earlier supervisor had started."""
        now = self._count()
        if code in KILLED:
            return exit_in_words(code, self._earlier, now)
        told = "it ended; how, an earlier supervisor would have been told" if code is None else describe_exit(code)
        # Who has lost a part may crash for it, before anybody looked.
        lost = self._is_grouped and self._earlier is not None and now is not None and now > self._earlier
        if lost and code not in ON_PURPOSE:
            return f"{told} (out of memory: the kernel ended a part of it before)"
        return told

    def _count(self) -> int | None:
        # Of its own group it is known for certain, else only of the machine.
        return self._groups.kills(self._name) if self._groups and self._is_grouped else oom_kills()


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
