"""What takes longer than a request may wait: our own commands, each a process of its own, kept by an id."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct, structs

from stack.servers.identity import describe_exit
from stack.servers.log_files import tail
from stack.supervision.orphans import MARK
from trading.encoding import Records, encode
from trading.errors import BadRecord, ServiceUnavailable
from trading.files import write_atomically

#: Of those that are over.
KEEP = 200
LINES = 40
ID = re.compile(r"[0-9a-f]{32}\Z")
#: A command that does not end when it is asked to is killed.
GRACE_S = 20.0
ASK_S = 60.0
#: As a shell has it for Ctrl-C.
CANCELLED = 130


class Operation(Struct, frozen=True):
    """A command, and what became of it.

    Attributes:
        id: 32 hexadecimal digits.
        kind: of what: restart, release, rollback, loadtest.
        subject: a service, a model and version, or a kind of load.
        reason, by: why, and who says that he asked.
        state: running, done, failed or cancelled.
        began_s, ended_s: wall time in seconds; 0 while it is not over.
        exit_code: of its last command; None while it runs.
        results: what its commands printed as JSON, in their order.
        log: the end of what they said beside that.
    """

    id: str
    kind: str
    subject: str
    reason: str
    by: str
    state: str
    began_s: float
    ended_s: float = 0.0
    exit_code: int | None = None
    results: list[Any] = []
    log: list[str] = []


_operations = Records(Operation)


class InTheWay(Exception):
    """Another operation of the kind runs; `running` is its id."""

    def __init__(self, running: Operation) -> None:
        super().__init__(f"a {running.kind} of {running.subject} runs already: {running.id}")
        self.running = running


class _CancelledError(Exception):
    """It was cancelled before its next command began."""


class Step(Struct, frozen=True):
    """A command, and which exit codes let the next one begin."""

    words: list[str]
    goes_on: Sequence[int] = (0,)


class Operations:
    """Starts commands, one of a kind at a time, and keeps what became of them."""

    def __init__(
        self, home: Path, program: Sequence[str] | None = None, told: Callable[[Operation], None] = print
    ) -> None:
        """Operations that ran when an earlier server of this kind ended are failed.

        Args:
            home: of the stack.
            program: what runs a command; default: ours.
            told: of each beginning and end, for the log.
        """
        self._folder, self._home, self._listener = home / "run" / "operations", home, told
        self._program = list(program or [os.fspath(Path(sys.executable).parent / "ultrathink")])
        self._folder.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._cancelled: set[str] = set()
        #: By kind, those that run; by id, those whose end could not be kept.
        self._live: dict[str, Operation] = {}
        self._unkept: dict[str, Operation] = {}
        for one in self.listed():
            if one.state == "running":
                self._keep(
                    structs.replace(one, state="failed", ended_s=time.time(), log=["the server ended meanwhile"])
                )

    def ask(self, words: Sequence[str]) -> Any:
        """What a command that changes nothing prints as JSON. Raises ServiceUnavailable with what it says."""
        done = subprocess.run(
            [*self._program, *words], capture_output=True, text=True, check=False, timeout=ASK_S,
            env=self._environment(),
        )  # fmt: skip
        if done.returncode != 0:
            raise ServiceUnavailable(f"{' '.join(words)}: {done.stderr.strip()[-500:]}")
        return json.loads(done.stdout)

    def start(self, kind: str, subject: str, steps: Sequence[Step], reason: str, by: str) -> Operation:
        """Begin. Raises InTheWay where one of the kind runs."""
        with self._lock:
            if (running := self._live.get(kind)) is not None:
                raise InTheWay(running)
            made = Operation(uuid.uuid4().hex, kind, subject, reason, by, "running", time.time())
            self._keep(made)
            self._live[kind] = made
        self._told(made)
        threading.Thread(target=self._run, args=(made, steps), name=f"{kind} {subject}", daemon=True).start()
        return made

    def listed(self) -> list[Operation]:
        """All that are kept, the newest first."""
        found = [one for path in self._folder.glob("*.json") if (one := self.get(path.stem)) is not None]
        return sorted(found, key=lambda one: one.began_s, reverse=True)

    def get(self, name: str) -> Operation | None:
        """One of them; None where there is none of that id."""
        if not ID.match(name):
            return None
        if (unkept := self._unkept.get(name)) is not None:
            return unkept
        try:
            return _operations.read((self._folder / f"{name}.json").read_bytes())
        except (OSError, BadRecord):
            return None

    def cancel(self, name: str) -> None:
        """Ask its command to end, and end it where it does not; no further one begins.

        By SIGTERM, which our commands take as Ctrl-C: SIGINT is ignored by all that descends from what a shell
        has put in the background.
        """
        with self._lock:
            self._cancelled.add(name)
            process = self._processes.get(name)
        if process is None or process.poll() is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    def close(self) -> None:
        """End all that run."""
        for name in list(self._processes):
            self.cancel(name)

    def _environment(self) -> dict[str, str]:
        # Not a process of the stack's: what is left of a server that crashed is ended, a release is not.
        return {n: v for n, v in os.environ.items() if n != MARK} | {"ULTRATHINK_HOME": os.fspath(self._home)}

    def _told(self, one: Operation) -> None:
        # A log that cannot be written keeps nothing from being done, or from ending.
        with contextlib.suppress(Exception):
            self._listener(one)

    def _run(self, made: Operation, steps: Sequence[Step]) -> None:
        try:
            self._carry_out(made, steps)
        finally:
            with self._lock:
                if (live := self._live.get(made.kind)) is not None and live.id == made.id:
                    del self._live[made.kind]

    def _carry_out(self, made: Operation, steps: Sequence[Step]) -> None:
        log, results, code = self._folder / f"{made.id}.log", [], 0
        ended = False
        try:
            for step in steps:
                code, printed = self._command(made.id, step.words, log)
                results += printed
                if code not in step.goes_on or made.id in self._cancelled:
                    ended = code in step.goes_on and step is steps[-1]
                    break
            else:
                ended = True
        except _CancelledError:
            code = CANCELLED
        except Exception as error:  # noqa: BLE001 - whatever it is, the operation is over, and says so
            code, results = 1, [*results, {"error": f"{type(error).__name__}: {error}"}]
        self._processes.pop(made.id, None)
        # What was done in spite of a cancel was done.
        state = "done" if ended else "cancelled" if made.id in self._cancelled else "failed"
        said = tail(log, LINES) + ([describe_exit(code)] if code < 0 else [])
        done = structs.replace(made, state=state, ended_s=time.time(), exit_code=code, results=results, log=said)
        # Whoever sees that it is over may begin the next.
        with self._lock:
            self._live.pop(made.kind, None)
        try:
            self._keep(done)
        except OSError:
            self._unkept[done.id] = done
        self._told(done)
        self._forget()

    def _command(self, name: str, words: Sequence[str], log: Path) -> tuple[int, list[Any]]:
        # What is printed is small: a document of JSON.
        with log.open("ab") as errors, self._lock:
            if name in self._cancelled:
                raise _CancelledError
            process = subprocess.Popen(
                [*self._program, *words], stdout=subprocess.PIPE, stderr=errors, stdin=subprocess.DEVNULL,
                env=self._environment(), start_new_session=True,
            )  # fmt: skip
            self._processes[name] = process
        printed, _ = process.communicate()
        try:
            return process.returncode, [json.loads(printed)] if printed.strip() else []
        except ValueError:
            return process.returncode, [{"printed": printed.decode("utf-8", "replace")[-4000:]}]

    def _keep(self, one: Operation) -> None:
        write_atomically(self._folder / f"{one.id}.json", encode(one).decode())

    def _forget(self) -> None:
        for one in self.listed()[KEEP:]:
            for ending in ("json", "log"):
                (self._folder / f"{one.id}.{ending}").unlink(missing_ok=True)
