"""The stack's servers, to be hurt."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from stack.supervision.status import READY, read_status
from trading.errors import ServiceUnavailable

BACK_S = 60.0


class ServerFaults:
    """Kills servers of one stack and waits for them to come back."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def pid(self, name: str) -> int:
        """Of a server that runs. Raises ServiceUnavailable."""
        status = read_status(self._home)
        found = next((s for s in status.services if s.name == name), None) if status else None
        if found is None or found.process is None:
            raise ServiceUnavailable(f"{name} does not run")
        return found.process.pid

    def kill(self, name: str) -> None:
        """SIGKILL."""
        os.kill(self.pid(name), signal.SIGKILL)

    def wait_until_ready(self) -> None:
        """Until all of them answer again. Raises ServiceUnavailable."""
        deadline = time.monotonic() + BACK_S
        time.sleep(0.5)
        while time.monotonic() < deadline:
            status = read_status(self._home)
            if status is not None and all(s.state == READY for s in status.services):
                return
            time.sleep(0.1)
        raise ServiceUnavailable(f"the servers did not come back within {BACK_S:.0f} s")
