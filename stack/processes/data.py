"""The data service as a process."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from stack.processes.own import OwnProcess, running
from stack.servers.identity import describe_exit
from stack.servers.loopback import client
from stack.servers.settings import LOOPBACK, StackSettings

START_S = 60.0


class DataProcess(OwnProcess):
    """The data service, which can be asked."""

    def __init__(self, settings: StackSettings, environment: dict[str, str]) -> None:
        """Prepare."""
        self.address = f"http://{LOOPBACK}:{settings.ports.data}"
        super().__init__(settings, ("data", "serve"), "data", environment)

    def wait(self, timeout_s: float = START_S) -> None:
        """Until it follows the ticks. Raises ServiceUnavailable with the end of its log."""
        began = time.monotonic()
        while time.monotonic() - began < timeout_s:
            if (code := self.ended()) is not None:
                raise self.failure(describe_exit(code))
            try:
                if client().get(f"{self.address}/v1/health", timeout=2.0).is_success:
                    return
            except httpx.HTTPError:
                # It does not listen yet.
                pass
            time.sleep(0.05)
        raise self.failure(f"it does not follow the ticks after {timeout_s:.0f} s")


@contextmanager
def running_data(settings: StackSettings, **given: Any) -> Iterator[DataProcess]:
    """The data service; ended at the end, and its exit code checked. `given` are its settings by their names."""
    environment = {f"ULTRATHINK_DATA_{name.upper()}": str(value) for name, value in given.items()}
    with running(DataProcess(settings, environment)) as process:
        process.wait()
        yield process
