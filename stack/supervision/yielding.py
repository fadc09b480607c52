"""Has the sessions of a service that yields do so as well: those, too, that its children begin by themselves."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress

from connectors.priority import yield_session


class Yielding:
    """Of one service; every backend of PostgreSQL begins a session, and would by it have a share of its own."""

    def __init__(self, nice: int) -> None:
        """`nice`: how far the service yields; 0 does nothing."""
        self._nice = nice
        self._told: set[int] = set()

    def begin(self, pid: int) -> None:
        """It was started, in a session of its own: what it starts inherits that."""
        self._told.clear()
        if self._nice:
            # Root in a container may be refused it of another user's: that is no reason not to start.
            with suppress(ProcessLookupError, PermissionError):
                os.setpriority(os.PRIO_PROCESS, pid, self._nice)
            self.look([pid])

    def look(self, pids: Iterable[int]) -> None:
        """Tell those that lead a session, and were not told; called again and again."""
        if not self._nice:
            return
        known = set(pids)
        # A number is given again to another process.
        self._told &= known
        for pid in known - self._told:
            with suppress(ProcessLookupError, PermissionError):
                # One that is not its session's leader may be about to begin one: it is looked at again.
                if os.getsid(pid) == pid:
                    if not yield_session(pid, self._nice):
                        return
                    self._told.add(pid)
