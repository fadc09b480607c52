"""One of our own processes, `ultrathink …`: started, watched, hurt and ended the same way wherever it is needed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from stack.servers.identity import describe_exit
from stack.servers.log_files import log_path, tail
from stack.servers.settings import StackSettings
from trading.errors import ServiceUnavailable

#: Our own command, of the installation that runs.
PROGRAM = Path(sys.executable).parent / "ultrathink"
DRAIN_S = 60.0
TAIL_LINES = 15


class OwnProcess:
    """A command of ours on one stack, in a process group of its own, its output in the stack's logs."""

    def __init__(
        self, settings: StackSettings, command: Sequence[str], log_name: str, environment: Mapping[str, str]
    ) -> None:
        """Prepare; `start` begins.

        Args:
            settings: of the stack whose home folder it gets.
            command: words after `ultrathink`.
            log_name: of its log.
            environment: added to ours.
        """
        self._settings, self._command, self._environment = settings, list(command), dict(environment)
        self.log: Path = log_path(settings.absolute_home, log_name)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the running process. Raises ServiceUnavailable where none runs."""
        if self._process is None:
            raise ServiceUnavailable(f"{' '.join(self._command)} does not run")
        return self._process.pid

    def start(self) -> None:
        """Start it, without waiting for anything."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        home = os.fspath(self._settings.absolute_home)
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                [os.fspath(PROGRAM), *self._command],
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env={**os.environ, "ULTRATHINK_HOME": home, **self._environment},
                start_new_session=True,
            )

    def kill(self) -> None:
        """SIGKILL, as the kernel does when memory runs out; nothing where it does not run."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def ended(self) -> int | None:
        """Its exit code, if it has one."""
        return None if self._process is None else self._process.poll()

    def signal(self, number: int) -> None:
        """Any other signal."""
        os.kill(self.pid, number)

    def drain(self, timeout_s: float = DRAIN_S) -> None:
        """SIGTERM, and wait. Raises ServiceUnavailable where it does not end in time, or not with 0."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired as error:
            raise self.failure(f"it did not drain within {timeout_s:.0f} s") from error
        self._process = None
        if code != 0:
            raise self.failure(describe_exit(code))

    def failure(self, why: str) -> ServiceUnavailable:
        """A sentence and the end of its log."""
        lines = "\n".join(f"  {line}" for line in tail(self.log, TAIL_LINES))
        return ServiceUnavailable(f"the {self._command[0]} failed: {why}\nThe end of {self.log}:\n{lines}")


P = TypeVar("P", bound=OwnProcess)


@contextmanager
def running(process: P) -> Iterator[P]:
    """The process, started; drained at the end and its exit code checked, or killed where something failed."""
    process.start()
    try:
        yield process
        process.drain()
    finally:
        process.kill()
