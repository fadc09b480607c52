"""Steps as processes of this machine, each in a session of its own, which outlive who started them.

A reference names the machine's boot and the space of its processes' numbers, the process, and the tick of the
kernel
at which it began: numbers are given again.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from shutil import rmtree

import psutil
from msgspec import Struct

from connectors.kernel import oom_kills
from trading.errors import ConfigurationError, ServiceUnavailable
from trainers import memory_budget
from trainers.orchestrator.admission import MB, Pool
from trainers.orchestrator.ports import Ceilings, Seen, StepTask
from trainers.orchestrator.runs import Attempt

BOOT_ID, NUMBERS = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
STOP_S = 5.0
#: Variable by which a step knows that it is a process of this machine's.
SPACE = "ULTRATHINK_STEP_SPACE"
#: Above what it was promised by so much, a step is ended where no group of the kernel's keeps it.
SLACK = 1.25


class Place(Struct, frozen=True):
    """Where a process is: in which space of numbers, its own, and the kernel's tick at which it began."""

    space: str
    pid: int
    tick: int


def own_reference() -> str:
    """By what this process, a step, is known to who started it; "" where that was no LocalExecutor."""
    space = os.environ.get(SPACE, "")
    return reference_of(space, os.getpid()) if space else ""


class LocalExecutor:
    """Implements Executor.

    Args:
        pool: whose memory steps take; its name is this machine's.
        command: words that begin a step; its run and fence follow.
        logs: folder of what steps print.
        environment: of the steps, added to ours.
        ceilings: groups of the kernel's; None where none can be made.
    """

    def __init__(
        self,
        pool: Pool,
        command: Sequence[str],
        logs: Path,
        environment: Mapping[str, str] | None = None,
        ceilings: Ceilings | None = None,
    ) -> None:
        self._pool, self._command, self._logs = pool, tuple(command), logs
        self._environment, self._ceilings = dict(environment or {}), ceilings
        #: By reference.
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._peaks: dict[str, int] = {}
        #: By reference: the most that is promised, the group, and kills for want of memory before it began.
        self._promised: dict[str, tuple[int, str, int | None]] = {}
        self._lock = threading.Lock()
        self._space = space_id()

    @property
    def pool(self) -> Pool:
        """See Executor."""
        return self._pool

    @property
    def holder(self) -> str:
        """See Executor: who starts a step is told how it ended, and nobody else is."""
        return reference_of(self._space, os.getpid())

    def is_held(self, holder: str) -> bool:
        """See Executor."""
        place = place_of(holder)
        return place is not None and place.space == self._space and is_alive(place)

    def start(self, task: StepTask) -> str:
        """See Executor."""
        path = self._logs / task.run / f"{task.fence}.log"
        group = group_of(task.run, task.fence)
        before = oom_kills()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab") as output:
                child = subprocess.Popen(
                    [*self._command, task.run, str(task.fence)], stdin=subprocess.DEVNULL, stdout=output,
                    stderr=subprocess.STDOUT, start_new_session=True,
                    env={**os.environ, **self._environment, SPACE: self._space},
                )  # fmt: skip
        except OSError as error:
            raise ServiceUnavailable(f"{self._command[0]} cannot be started: {error.strerror}") from error
        need = task.need
        if self._ceilings is not None and self._ceilings.place(
            group, child.pid, need.memory_mb, yields=need.yields
        ):
            before = self._ceilings.kills(group)
        else:
            group = ""
        reference = reference_of(self._space, child.pid)
        with self._lock:
            self._children[reference] = child
            self._promised[reference] = (task.need.memory_mb, group, before)
        return reference

    def adopt(self, attempt: Attempt) -> None:
        """See Executor: of its group the kernel has counted from its beginning, of the machine from now on."""
        group = group_of(attempt.run, attempt.fence)
        kills = None if self._ceilings is None else self._ceilings.kills(group)
        promise = (attempt.memory_mb, group, 0) if kills is not None else (attempt.memory_mb, "", oom_kills())
        with self._lock:
            self._promised.setdefault(attempt.reference, promise)

    def owns(self, reference: str) -> bool:
        """See Executor."""
        place = place_of(reference)
        return place is not None and place.space == self._space

    def look(self, reference: str) -> Seen:
        """See Executor."""
        place = place_of(reference)
        if place is None or place.space != self._space:
            raise ServiceUnavailable(f"{reference} does not run on this machine")
        promised, group, before = self._promised.get(reference, (0, "", None))
        with self._lock:
            child = self._children.get(reference)
        code = None if child is None else child.poll()
        # Of its own children it is told; of others it sees whether they are there.
        lives = is_alive(place) if child is None else code is None
        if lives:
            used = resident_mb(place.pid)
            peak = self._peaks[reference] = max(self._peaks.get(reference, 0), used)
            if promised and not group and used > promised * SLACK:
                self.stop(reference)
                return Seen(False, -signal.SIGKILL, out_of_memory=True, peak_mb=peak, why=f"it used {used:,} MB")
            return Seen(True, peak_mb=peak)
        ended = self._ceilings.kills(group) if group and self._ceilings is not None else oom_kills()
        killed = None if ended is None or before is None else ended > before
        peak = self._peaks.pop(reference, 0)
        with self._lock:
            self._children.pop(reference, None)
            self._promised.pop(reference, None)
        if group and self._ceilings is not None:
            self._ceilings.remove(group)
        if child is None and killed:
            # Nobody is told how another's child ended; the kernel tells why.
            code = -signal.SIGKILL
        return Seen(False, code, killed if code == -signal.SIGKILL else False, peak or None)

    def stop(self, reference: str) -> None:
        """See Executor."""
        place = place_of(reference)
        if place is None or place.space != self._space or not is_alive(place):
            return
        # What stands still would not hear that it is to end.
        send(place.pid, signal.SIGCONT)
        send(place.pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_S
        while is_alive(place) and time.monotonic() < deadline:
            self._reap(reference, 0.05)
        send(place.pid, signal.SIGKILL)
        self._reap(reference, STOP_S)

    def pause(self, reference: str, *, paused: bool) -> bool:
        """See Executor."""
        place = place_of(reference)
        if place is None or place.space != self._space or not is_alive(place):
            return False
        return send(place.pid, signal.SIGSTOP if paused else signal.SIGCONT)

    def free_mb(self) -> int | None:
        """See Executor."""
        return memory_budget.available_bytes() // MB

    def log(self, run: str, fence: int) -> Iterator[str]:
        """See Executor."""
        # What is asked for is no path: it is looked up among those that are there.
        there = {path.parent.name: path for path in self._logs.glob(f"*/{fence:d}.log")}
        if run not in there:
            raise ConfigurationError(f"nothing is kept of what attempt {fence} of run {run[:64]!r} printed")
        with there[run].open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                yield line.rstrip("\n")

    def forget(self, run: str) -> None:
        """See Executor."""
        there = {path.name: path for path in self._logs.glob("*/")}
        if run in there:
            rmtree(there[run], ignore_errors=True)

    def _reap(self, reference: str, wait_s: float) -> None:
        """Wait for a child of this process; for another's as long."""
        with self._lock:
            child = self._children.get(reference)
        if child is None:
            time.sleep(min(wait_s, 0.05))
            return
        with suppress(subprocess.TimeoutExpired):
            child.wait(wait_s)


def group_of(run: str, fence: int) -> str:
    """The kernel's group of an attempt."""
    return f"step-{run}-{fence}"


def space_id() -> str:
    """Of this machine's boot and this container's numbers of processes; its name where the kernel does not tell."""
    try:
        return f"{BOOT_ID.read_text().strip()}-{NUMBERS.stat().st_ino}"
    except OSError:
        return os.uname().nodename


def reference_of(space: str, pid: int) -> str:
    """Of a process that lives, or lived a moment ago."""
    return f"local:{space}:{pid}:{stat_of(pid)[1]}"


def place_of(reference: str) -> Place | None:
    """Where a reference's process is; None where it names none of ours."""
    words = reference.split(":")
    if len(words) != len(Place.__struct_fields__) + 1 or words[0] != "local":
        return None
    try:
        return Place(words[1], int(words[2]), int(words[3]))
    except ValueError:
        return None


def stat_of(pid: int) -> tuple[str, int]:
    """A process' state and the tick at which it began (proc_pid_stat(5)); "X" and 0 where it has gone."""
    try:
        told = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return "X", 0
    # Its name, in brackets, may hold anything.
    words = told[told.rindex(")") + 2 :].split()
    return words[0], int(words[19])


def is_alive(place: Place) -> bool:
    """Whether the very process lives that was started; one that has ended and is not reaped does not."""
    state, tick = stat_of(place.pid)
    return tick == place.tick and state not in {"X", "Z"}


def send(group: int, number: signal.Signals) -> bool:
    """A signal to a whole group; false where it has ended."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def resident_mb(pid: int) -> int:
    """Of a process and all that it started."""
    total = 0
    with suppress(psutil.Error):
        leader = psutil.Process(pid)
        for one in (leader, *leader.children(recursive=True)):
            with suppress(psutil.Error):
                total += one.memory_info().rss
    return total // MB
