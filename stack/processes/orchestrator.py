"""The orchestrator, as a process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from stack.processes.own import OwnProcess, running
from stack.servers.settings import StackSettings


@contextmanager
def running_orchestrator(settings: StackSettings, **given: Any) -> Iterator[OwnProcess]:
    """Ended at the end, and its exit code checked. `given` are its settings by their names."""
    environment = {f"ULTRATHINK_ORCHESTRATOR_{name.upper()}": str(value) for name, value in given.items()}
    with running(OwnProcess(settings, ("orchestrator", "run"), "orchestrator", environment)) as process:
        yield process
