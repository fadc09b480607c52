"""One service's life in a thread of the supervisor: start, ask until ready, watch, restart."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import psutil

from stack.servers.identity import Families, Identity, Usage, end, identity
from stack.servers.log_files import log_path
from stack.servers.server import AtWork, NotReady, Service, members
from stack.supervision.cgroups import Groups
from stack.supervision.memory import MemoryKills
from stack.supervision.orphans import Note, end_marked, marker, note
from stack.supervision.status import BACKING_OFF, FAILED, READY, STARTING, STOPPED, WAITING, ServiceStatus
from stack.supervision.yielding import Yielding

#: A service that dies this often before it was ever ready is called failed, and tried less often.
ATTEMPTS_BEFORE_READY = 3
BACK_OFF_S = (0.2, 1.0, 2.0, 5.0, 10.0, 30.0)
#: Up so long, the next death starts the back-off anew.
STABLE_S = 60.0
PROBE_EVERY_S = 2.0
#: What was ready and has not answered for so long hangs: it is ended, and started again.
HANGS_S = 60.0
FAMILIES = Families()


class Runner(threading.Thread):
    """Keeps one service running until `stop` is called."""

    def __init__(
        self,
        home: Path,
        service: Service,
        others: Mapping[str, Runner],
        settings: str = "",
        running: Identity | None = None,
        groups: Groups | None = None,
    ) -> None:
        """Prepare.

        Args:
            home: of the stack.
            service: what to keep running.
            others: by their names, this one among them.
            settings: the digest of those that it is started by.
            running: its process, where an earlier supervisor has left it.
            groups: of the kernel, which keep it below its ceiling; None where there are none.
        """
        super().__init__(name=service.name, daemon=True)
        self.service = service
        self.status = ServiceStatus(
            service.name, endpoint=service.endpoint, memory_limit_mb=service.memory_limit_mb
        )
        self._home, self._others, self._settings, self._running = home, others, settings, running
        self._kills = MemoryKills(groups, service.name)
        self._yielding = Yielding(service.nice)
        self._stopping = threading.Event()
        #: The process has ended, or must; somebody asked for something.
        self._news, self._asked = threading.Event(), threading.Event()
        #: Why somebody wants it started again.
        self._restart = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._failures, self._was_ready, self._withdrawn = 0, False, False
        self._measured: tuple[float, Usage] | None = None
        self._troubles: tuple[str, ...] = ()

    def run(self) -> None:
        """Thread body."""
        try:
            while not self._stopping.is_set() and self._may_start():
                try:
                    self._live_once()
                except Exception as error:  # noqa: BLE001 - no file descriptor, no process: it may be better soon
                    self.status.detail = f"{type(error).__name__}: {error}"
                    self._asked.wait(BACK_OFF_S[-2])
        finally:
            self._end_process()
            self.status.state = STOPPED

    def stop(self) -> None:
        """Ask the thread to end its service; join it to wait."""
        self._stopping.set()
        self._asked.set()
        self._news.set()

    def withdraw(self) -> None:
        """Start nothing any more; what runs goes on until `stop`."""
        self._withdrawn = True

    def restart(self, reason: str) -> None:
        """End what runs, and start it again at once: what waits after failures waits no longer."""
        self._restart = reason or "restarted on request"
        self._asked.set()
        self._news.set()

    def missing(self, names: tuple[str, ...]) -> list[str]:
        """Of those names, what is not ready, for people."""
        # Who leaves the profile is taken out meanwhile.
        found, others = [], dict(self._others)
        for name in names:
            group = [others[member] for member in members(name, tuple(others))]
            ready = sum(one.status.state == READY for one in group)
            if 2 * ready <= len(group):
                found += [f"{one.service.name} is {one.status.state}" for one in group if one.status.state != READY]
        return found

    def degraded(self) -> list[str]:
        """What does not work although it is ready, and because of whom."""
        if self.status.state != READY:
            return []
        return [*self.missing((*self.service.requires, *self.service.uses)), *self._troubles]

    def _may_start(self) -> bool:
        """Wait for those that it needs, and while something holds it; false where it is stopped meanwhile."""
        status = self.status
        while not self._stopping.is_set():
            missing = self.missing(tuple(self.service.requires))
            status.held = "" if missing else self._held()
            if not missing and not status.held and not self._withdrawn:
                return True
            if status.state != FAILED:
                status.state = WAITING
            status.detail = status.held or f"waits: {', '.join(missing)}"
            self._stopping.wait(0.05 if missing else 0.5)
        return False

    def _held(self) -> str:
        try:
            return self.service.hold()
        except Exception as error:  # noqa: BLE001 - what cannot be read holds, and is tried again
            return f"{type(error).__name__}: {error}"

    def _live_once(self) -> None:
        try:
            self._start()
            self._wait_until_ready()
            self._watch()
        except _Died as death:
            self._died(death)
        except Exception as error:  # noqa: BLE001 - whatever a server's client raises, the thread must live
            self._died(_Died(f"{type(error).__name__}: {error}"))

    def _start(self) -> None:
        self.status.state, self.status.detail = STARTING, ""
        self._restart = ""
        if not self._stopping.is_set():
            self._asked.clear()
        self._news.clear()
        running, self._running = self._running, None
        if running is not None and running.find() is not None:
            self._process, self.status.process = None, running
            self._kills.begin(running.pid, self.service.memory_limit_mb, is_new=False)
        else:
            self._spawn()
        threading.Thread(target=self._await_end, args=(self.status.process, self._process), daemon=True).start()

    def _spawn(self) -> None:
        service = self.service
        service.prepare()
        log = log_path(self._home, service.name)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                list(service.command()),
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                cwd=service.folder if service.user is None else "/",
                env={**os.environ, **service.environment(), **marker(self._home, service.name)},
                **identity(service.user),
                start_new_session=True,
            )
        self._kills.begin(self._process.pid, service.memory_limit_mb, is_new=True)
        # At once: what it starts inherits it.
        self._yielding.begin(self._process.pid)
        self.status.process = Identity.of(self._process.pid)
        started = Note(self.status.process, self._settings, service.stop_signal, service.stop_timeout_s)
        note(self._home, service.name, started)

    def _await_end(self, identity: Identity, process: subprocess.Popen[bytes] | None) -> None:
        # Blocked, and so for nothing: to look ten times a second, for each service, is work.
        if process is not None:
            process.wait()
        elif (adopted := identity.find()) is not None:
            # Whose end its parent alone is told of is looked for, by the library.
            with contextlib.suppress(psutil.Error):
                adopted.wait()
        self._news.set()

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + self.service.start_timeout_s
        next_look = time.monotonic() + PROBE_EVERY_S
        while not self._stopping.is_set():
            self._raise_if_over()
            if time.monotonic() >= next_look:
                # What is rebuilt may take minutes, and all memory.
                next_look = time.monotonic() + PROBE_EVERY_S
                self._measure()
                self._count_parts()
            try:
                self.status.version = self.service.probe()
                break
            except NotReady as error:
                self.status.detail, self.status.busy = str(error), isinstance(error, AtWork)
            if self.status.busy:
                # A log that must be read again may be of any length.
                deadline = time.monotonic() + self.service.start_timeout_s
            if time.monotonic() > deadline:
                raise _Died(f"did not answer within {self.service.start_timeout_s:.0f} s: {self.status.detail}")
            self._stopping.wait(0.05)
        else:
            return
        self.service.on_ready()
        self._measure(anew=True)
        self._look_at_parts()
        with contextlib.suppress(NotReady):
            # It is asked again in a moment.
            self._troubles = tuple(self.service.troubles())
        self.status.detail, self.status.busy = "", False
        self.status.state = READY
        self._was_ready = True

    def _watch(self) -> None:
        answered = time.monotonic()
        next_probe = answered + PROBE_EVERY_S
        while not self._stopping.is_set():
            if self._news.wait(max(0.0, next_probe - time.monotonic())):
                self._news.clear()
            self._raise_if_over()
            if time.monotonic() < next_probe:
                continue
            next_probe = time.monotonic() + PROBE_EVERY_S
            self._measure()
            self._look_at_parts()
            try:
                self.service.probe()
                self._troubles = tuple(self.service.troubles())
                self.status.state, self.status.detail = READY, ""
                answered = time.monotonic()
            except NotReady as error:
                self.status.state, self.status.detail = STARTING, f"does not answer: {error}"
                if isinstance(error, AtWork):
                    answered = time.monotonic()
            if time.monotonic() - answered > HANGS_S:
                raise _Died(f"did not answer for {HANGS_S:.0f} s: {self.status.detail}")
            if self.status.uptime_s > STABLE_S:
                self._failures = 0

    def _measure(self, *, anew: bool = False) -> None:
        if (process := self._found()) is None:
            return
        try:
            used, now = self._usage(process, anew=anew), time.monotonic()
            self.status.uptime_s = round(time.time() - process.create_time(), 1)
        except psutil.NoSuchProcess:
            return
        self.status.memory_mb = round(used.memory_mb, 1)
        if self._measured is not None and now > self._measured[0]:
            # A child that ended takes its time with it.
            grown = max(0.0, used.cpu_s - self._measured[1].cpu_s)
            self.status.cpu_percent = round(100.0 * grown / (now - self._measured[0]), 1)
        self._measured = now, used
        if self.status.memory_mb > self.service.memory_limit_mb:
            told = f"{self.status.memory_mb:.0f} MB"
            self._end_process()
            raise _Died(f"ended at {told}: above its ceiling of {self.service.memory_limit_mb} MB (out of memory)")

    def _usage(self, process: psutil.Process, *, anew: bool) -> Usage:
        return FAMILIES.usage(process, anew=anew, sessions_apart=self.service.sessions_apart)

    def _count_parts(self) -> None:
        """What the kernel ended while this one lived on was a part of it, where it has a group of its own."""
        if ended := self._kills.look():
            self.status.out_of_memory += ended
            self.status.last_exit = "exit 137: a part of it was ended for want of memory, and it goes on"

    def _look_at_parts(self) -> None:
        self._count_parts()
        if (process := self._found()) is None:
            return
        children = FAMILIES.children(process.pid)
        self._yielding.look([process.pid, *(child.pid for child in children)])
        if why := self.service.broken(children):
            # Without that part it has nothing to finish, and would wait for it.
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
            raise _Died(f"{why}: exit 137, for want of memory" if self._kills.ended_a_part_lately() else why)

    def _raise_if_over(self) -> None:
        if self._restart:
            raise _Died(self._restart, asked=True)
        code = self._process.poll() if self._process else None
        if code is not None:
            raise _Died(self._kills.exit_in_words(code))
        if self._process is None and self._found() is None:
            raise _Died(self._kills.exit_in_words(None))

    def _found(self) -> psutil.Process | None:
        return None if self.status.process is None else self.status.process.find()

    def _died(self, death: _Died) -> None:
        if self._stopping.is_set():
            return
        self._end_process()
        status = self.status
        status.last_exit, status.process, status.uptime_s, status.cpu_percent = str(death), None, 0.0, 0.0
        status.restarts += 1
        for_memory = "(out of memory" in str(death) and "or killed by hand" not in str(death)
        # The kernel counts one before it is gone: a look may have told of it as a part.
        status.out_of_memory += for_memory and not self._kills.ended_a_part_lately()
        self._measured, self._troubles = None, ()
        if death.asked:
            self._failures = 0
            status.state = BACKING_OFF
            return
        self._failures += 1
        given_up = not self._was_ready and self._failures >= ATTEMPTS_BEFORE_READY
        status.state, status.detail = (FAILED, str(death)) if given_up else (BACKING_OFF, "")
        wait_s = BACK_OFF_S[-1] if given_up else BACK_OFF_S[min(self._failures, len(BACK_OFF_S)) - 1]
        self._asked.wait(wait_s)

    def _end_process(self) -> None:
        if self.status.process is not None:
            gone = not end(self.status.process, self.service.stop_signal, self.service.stop_timeout_s)
            if gone and self._process is None:
                # Of one that was adopted and crashed: whoever bears its mark would hold its port.
                end_marked(self._home, self.service.name)
        if self._process is not None:
            # A leader that crashed leaves its children: they would hold its port.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


class _Died(Exception):
    """The process ended, or must; `asked` is true where a person wanted it."""

    def __init__(self, why: str, *, asked: bool = False) -> None:
        super().__init__(why)
        self.asked = asked
