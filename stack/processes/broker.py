"""The paper broker as a process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from stack.processes.own import OwnProcess, running
from stack.servers.settings import StackSettings


@contextmanager
def running_broker(settings: StackSettings) -> Iterator[OwnProcess]:
    """The paper broker; ended at the end, and its exit code checked."""
    with running(OwnProcess(settings, ("broker", "run"), "broker", {})) as process:
        yield process
