"""One service's life in a thread of the supervisor: start, ask until ready, watch, restart."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import psutil

from stack.servers.identity import Families, Identity, describe_exit, end, identity
from stack.servers.server import NotReady, Service
from stack.servers.status import BACKING_OFF, FAILED, READY, STARTING, STOPPED, ServiceStatus, log_path

#: A service that dies this often before it was ever ready is given up.
ATTEMPTS_BEFORE_READY = 3
BACK_OFF_S = (0.2, 1.0, 2.0, 5.0, 10.0, 30.0)
#: Up so long, the next death starts the back-off anew.
STABLE_S = 60.0
PROBE_EVERY_S = 2.0
MAX_LOG_BYTES = 20 * 2**20
FAMILIES = Families()


class Runner(threading.Thread):
    """Keeps one service running until `stop` is called."""

    def __init__(self, home: Path, service: Service, others: dict[str, Runner]) -> None:
        super().__init__(name=service.name, daemon=True)
        self.service = service
        self.status = ServiceStatus(
            service.name, endpoint=service.endpoint, memory_limit_mb=service.memory_limit_mb
        )
        self._home = home
        self._others = others
        self._stopping = threading.Event()
        #: The process has ended, or must.
        self._news = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._failures = 0
        self._was_ready = False

    def run(self) -> None:
        """Thread body."""
        try:
            while not self._stopping.is_set() and self._requirements_met():
                self._live_once()
        finally:
            self._end_process()
            if self.status.state != FAILED:
                self.status.state = STOPPED

    def stop(self) -> None:
        """Ask the thread to end its service; join it to wait."""
        self._stopping.set()
        self._news.set()

    def _requirements_met(self) -> bool:
        while any(self._others[name].status.state != READY for name in self.service.requires):
            if self._stopping.wait(0.05):
                return False
        return True

    def _live_once(self) -> None:
        try:
            self._start()
            self._wait_until_ready()
            self._watch()
        except _Died as death:
            self._died(str(death))
        except Exception as error:  # noqa: BLE001 - whatever a server's client raises, the thread must live
            self._died(f"{type(error).__name__}: {error}")

    def _start(self) -> None:
        self.status.state = STARTING
        service = self.service
        service.prepare()
        log = log_path(self._home, service.name)
        log.parent.mkdir(parents=True, exist_ok=True)
        if log.is_file() and log.stat().st_size > MAX_LOG_BYTES:
            log.replace(log.with_suffix(".log.1"))
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                list(service.command()),
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                cwd=service.folder if service.user is None else "/",
                env={**os.environ, **service.environment()},
                **identity(service.user),
                start_new_session=True,
            )
        if service.nice:
            # At once: what it starts inherits it.
            os.setpriority(os.PRIO_PROCESS, self._process.pid, service.nice)
        self.status.process = Identity.of(self._process.pid)
        awaiting = threading.Thread(target=self._await_end, args=(self._process,), daemon=True)
        awaiting.start()

    def _await_end(self, process: subprocess.Popen[bytes]) -> None:
        # Blocked, and so for nothing: to look ten times a second, for each service, is work.
        process.wait()
        self._news.set()

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + self.service.start_timeout_s
        while not self._stopping.is_set():
            self._raise_if_dead()
            try:
                self.status.version = self.service.probe()
                break
            except NotReady as error:
                self.status.detail = str(error)
            if time.monotonic() > deadline:
                raise _Died(f"did not answer within {self.service.start_timeout_s:.0f} s: {self.status.detail}")
            self._stopping.wait(0.05)
        else:
            return
        self.service.on_ready()
        self._measure(anew=True)
        self.status.detail = ""
        self.status.state = READY
        self._was_ready = True

    def _watch(self) -> None:
        next_probe = time.monotonic() + PROBE_EVERY_S
        while not self._stopping.is_set():
            if self._news.wait(max(0.0, next_probe - time.monotonic())):
                self._news.clear()
            self._raise_if_dead()
            if time.monotonic() < next_probe:
                continue
            next_probe = time.monotonic() + PROBE_EVERY_S
            self._measure()
            try:
                self.service.probe()
                self.status.state, self.status.detail = READY, ""
            except NotReady as error:
                self.status.state, self.status.detail = STARTING, f"does not answer: {error}"
            if self.status.uptime_s > STABLE_S:
                self._failures = 0

    def _measure(self, *, anew: bool = False) -> None:
        if self._process is None:
            return
        try:
            process = psutil.Process(self._process.pid)
            self.status.memory_mb = round(FAMILIES.resident_mb(process, anew=anew), 1)
            self.status.uptime_s = round(time.time() - process.create_time(), 1)
        except psutil.NoSuchProcess:
            return
        if self.status.memory_mb > self.service.memory_limit_mb:
            used = f"{self.status.memory_mb:.0f} MB"
            self._end_process()
            raise _Died(f"ended at {used}: above its ceiling of {self.service.memory_limit_mb} MB")

    def _raise_if_dead(self) -> None:
        code = self._process.poll() if self._process else None
        if code is not None:
            raise _Died(describe_exit(code))

    def _died(self, why: str) -> None:
        if self._stopping.is_set():
            return
        self._end_process()
        self._failures += 1
        self.status.last_exit = why
        self.status.process = None
        self.status.uptime_s = 0.0
        if not self._was_ready and self._failures >= ATTEMPTS_BEFORE_READY:
            self.status.state, self.status.detail = FAILED, why
            self._stopping.set()
            return
        self.status.state = BACKING_OFF
        self.status.restarts += 1
        self._stopping.wait(BACK_OFF_S[min(self._failures, len(BACK_OFF_S)) - 1])

    def _end_process(self) -> None:
        if self.status.process is not None:
            end(self.status.process, self.service.stop_signal, self.service.stop_timeout_s)
        if self._process is not None:
            # A leader that crashed leaves its children: they would hold its port.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


class _Died(Exception):
    """The process ended, or must."""
