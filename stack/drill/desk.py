"""The desk that is hurt: its commands as a person gives them, its processes as the kernel knows them."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import psutil

from stack.drill.alarms import Alarms
from stack.processes.own import PROGRAM
from stack.servers.settings import StackSettings
from stack.supervision.status import READY, ServiceStatus, StackStatus, read_status
from trading.errors import ServiceUnavailable

COMMAND_S, BACK_S, LOOK_S = 300.0, 60.0, 0.05
Answer = TypeVar("Answer")


class Desk:
    """One stack of the drill's own."""

    def __init__(self, settings: StackSettings, alarms: Alarms, disk: Path | None = None) -> None:
        """`disk`: where the desk's disk is one of its own, which may be filled; None where it is everybody's."""
        self.settings, self.alarms, self.disk = settings, alarms, disk
        self.home = settings.absolute_home

    def ran(self, *words: str, **environment: str) -> str:
        """A command of ours on this desk; what it printed. Raises ServiceUnavailable with what it complained of."""
        # Of the caller's own desk nothing is told to this one.
        ours = {name: value for name, value in os.environ.items() if not name.startswith("ULTRATHINK_")}
        told = {**ours, "ULTRATHINK_HOME": os.fspath(self.home), **environment}
        try:
            done = subprocess.run(
                [PROGRAM, *words], env=told, capture_output=True, text=True, check=False, timeout=COMMAND_S
            )
        except subprocess.TimeoutExpired as error:
            raise ServiceUnavailable(f"ultrathink {' '.join(words)}: no end after {COMMAND_S:.0f} s") from error
        if done.returncode:
            raise ServiceUnavailable(f"ultrathink {' '.join(words)}: {(done.stderr or done.stdout).strip()[-600:]}")
        return done.stdout

    def status(self) -> StackStatus:
        """Raises ServiceUnavailable where nothing runs."""
        if (found := read_status(self.home)) is None:
            raise ServiceUnavailable(f"nothing runs in {self.home}")
        return found

    def row(self, name: str) -> ServiceStatus:
        """Of one process. Raises ServiceUnavailable where there is none of that name."""
        found = next((row for row in self.status().services if row.name == name), None)
        if found is None:
            raise ServiceUnavailable(f"there is no {name} in {self.home}")
        return found

    def process(self, name: str) -> psutil.Process:
        """The one that runs. Raises ServiceUnavailable."""
        row = self.row(name)
        found = None if row.process is None else row.process.find()
        if found is None:
            raise ServiceUnavailable(f"{name} does not run")
        return found

    def kill(self, name: str) -> None:
        """SIGKILL."""
        self.process(name).kill()

    def wait_until_ready(self, name: str = "", timeout_s: float = BACK_S) -> None:
        """Until a process answers, or all do. Raises ServiceUnavailable."""
        self.wait(
            lambda: all(row.state == READY for row in self.status().services if name in {"", row.name}),
            f"{name or 'all'} to answer",
            timeout_s,
        )

    def wait(self, condition: Callable[[], bool], what: str, timeout_s: float = BACK_S) -> float:
        """Until something holds; the seconds that it took. Raises ServiceUnavailable."""
        began = time.monotonic()
        while not condition():
            if time.monotonic() - began > timeout_s:
                raise ServiceUnavailable(f"waited {timeout_s:.0f} s for {what}")
            time.sleep(LOOK_S)
        return time.monotonic() - began

    def patiently(self, ask: Callable[[], Answer], timeout_s: float = BACK_S) -> Answer:
        """An answer, of somebody who may be on the way back. Raises ServiceUnavailable."""
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                return ask()
            except ServiceUnavailable:
                if time.monotonic() > deadline:
                    raise
                time.sleep(LOOK_S)

    def keep_logs(self, place: Path) -> None:
        """Copy them, as far as that can be done: they go with the desk."""
        with contextlib.suppress(OSError, shutil.Error):
            shutil.copytree(self.home / "logs", place, dirs_exist_ok=True)

    @contextmanager
    def suspended(self, name: str) -> Iterator[None]:
        """It and its children hang; whoever was ended meanwhile is left alone."""
        leader = self.process(name)
        family = [leader, *leader.children(recursive=True)]
        try:
            for one in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.send_signal(signal.SIGSTOP)
            yield
        finally:
            for one in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.send_signal(signal.SIGCONT)


@contextmanager
def repeatedly(action: Callable[[], object], every_s: float) -> Iterator[None]:
    """An action again and again in a thread, as long as this lasts.

    What somebody who is away keeps it from is tried again. Raises ServiceUnavailable, at its end, for all else.
    """
    ending, failures = threading.Event(), list[Exception]()

    def act() -> None:
        try:
            while not ending.is_set():
                with contextlib.suppress(ServiceUnavailable):
                    action()
                ending.wait(every_s)
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not end unheard
            failures.append(error)

    thread = threading.Thread(target=act, name="again", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join(BACK_S)
    if failures:
        raise ServiceUnavailable(f"it was not done again and again: {failures[0]!r}") from failures[0]
