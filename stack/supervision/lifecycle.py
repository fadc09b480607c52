"""`up`, `down` and `status` of the stack in a home folder."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from exporters.repository.state import state_folder, store_folder
from stack.servers.identity import Identity, end
from stack.servers.log_files import log_path, tail
from stack.servers.settings import STORED, StackSettings, is_started, load
from stack.supervision.checks import check_brokers, check_disk, check_ports, check_same
from stack.supervision.orphans import (
    LOCK,
    SUPERVISOR,
    adoptable,
    digest,
    end_left_behind,
    hold,
    is_supervised,
    left_behind,
    marker,
)
from stack.supervision.ownership import RECORD, adopt, claim, delete, disown
from stack.supervision.requests import ask
from stack.supervision.status import FAILED, READY, ServiceStatus, StackStatus, read_status, status_path
from trading.errors import ConfigurationError, ServiceUnavailable

UP_TIMEOUT_S, DOWN_TIMEOUT_S = 180.0, 150.0
#: Folders of the home folder that the servers write, and nobody else may.
FOLDERS = (
    "experiments",
    "experiment-requests",
    "orchestrator",
    "kafka",
    "redis",
    "postgres",
    "mlflow",
    "triton",
    "torchserve",
    "prometheus",
    "alertmanager",
    "logs",
    "run",
    "secrets",
    "trail",
    "archive",
)
#: Files that we write into it.
FILES = (STORED, ".demo")


def up(settings: StackSettings, show: Callable[[StackStatus], None]) -> StackStatus:
    """Start the stack and wait until every service answers in its own protocol.

    Args:
        settings: what to start.
        show: called with each new status, for live progress.

    Returns:
        The status, all ready. A stack that runs already is left as it is.

    Raises:
        ConfigurationError: a port is taken, something is not installed, the home folder holds what is not
            ours, or another stack than this one runs there.
        ServiceUnavailable: a service did not come up; nothing is left running.
    """
    home = settings.absolute_home
    current = read_status(home)
    if current is not None and current.alive:
        running = load(home)
        check_same(settings, running)
        if not current.profile:
            raise ConfigurationError(
                f"a supervisor of an older version runs in {home}: end it first, `ultrathink stack down`"
            )
        if current.profile != settings.profile:
            change_profile(settings, current, running)
        return wait_until_ready(home, show)
    with starting_alone(home):
        return start_anew(settings, home, show)


@contextlib.contextmanager
def starting_alone(home: Path) -> Iterator[None]:
    """One start of a home folder at a time: the second waits until the first is done, one way or the other.

    The file lies outside: a folder that is refused is left as it was.
    """
    name = hashlib.sha256(os.fsencode(home)).hexdigest()[:16]
    path = Path(tempfile.gettempdir()) / f"ultrathink-{os.getuid()}-{name}.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def start_anew(settings: StackSettings, home: Path, show: Callable[[StackStatus], None]) -> StackStatus:
    """Start a supervisor where none lives, unless another `up` has just done so."""
    current = read_status(home)
    if current is not None and current.alive:
        check_same(settings, load(home))
        return wait_until_ready(home, show)
    with prepare(settings) as lock:
        status_path(home).unlink(missing_ok=True)
        supervisor = start_supervisor(home, lock)
    try:
        return wait_until_ready(home, show, supervisor)
    except BaseException:
        # Another `up` of the same moment may have been the first: what that has started is not ours to end.
        told = read_status(home)
        if told is None or told.supervisor == supervisor:
            down(home)
        end(supervisor, timeout_s=DOWN_TIMEOUT_S)
        raise


def prepare(settings: StackSettings) -> IO[str]:
    """What an earlier supervisor left is ended or can be adopted; the home folder is ours, and holds the settings.

    Returns the lock of its only supervisor, for the one that is started now. Raises ConfigurationError as `up`.
    """
    check_ports(settings, besides=clean(settings))
    check_disk(settings)
    check_brokers(settings)
    claim_home(settings)
    settings.tell_clients(alone=True)
    if (lock := hold(settings.absolute_home)) is None:
        raise ConfigurationError(f"another supervisor has just been started in {settings.absolute_home}")
    return lock


def claim_home(settings: StackSettings) -> None:
    """The home folder is ours, and holds the settings. Raises ConfigurationError where it is somebody else's."""
    home = settings.absolute_home
    # A stack of before there was such a record used whatever lay there; it goes on, and `purge` leaves that alone.
    if is_started(home):
        adopt(home)
    claim(home, FOLDERS, alone=not is_started(home))
    claim(home, folders_of(settings.model_repository, home), alone=False)
    if "torchserve" in settings.beside:
        claim(home, folders_of(settings.torchserve_repository, home, store=True), alone=False)
    settings.save()


def change_profile(settings: StackSettings, current: StackStatus, before: StackSettings) -> None:
    """Ask the supervisor that runs for more processes, or fewer.

    Raises:
        ConfigurationError: a port of those that are new is taken.
        ServiceUnavailable: the supervisor does not take it up.
    """
    from stack.supervision.catalogue import services

    home = settings.absolute_home
    check_ports(settings, besides={service.name for service in current.services})
    settings.save()
    ask(home, "apply")
    wanted = {service.name for service in services(settings)}
    deadline = time.monotonic() + DOWN_TIMEOUT_S
    # Until what is ended has drained, too: it still holds its ports.
    while (
        (told := read_status(home)) is None
        or told.profile != settings.profile
        or not {service.name for service in told.services} <= wanted
    ):
        if time.monotonic() > deadline or (told is not None and not told.alive):
            before.save()
            raise ServiceUnavailable(failure(home, "supervisor", "it does not take up another profile"))
        time.sleep(0.05)


def clean(settings: StackSettings) -> set[str]:
    """End what an earlier supervisor left, which was killed; returns the services that can be adopted, and run on.

    Raises ConfigurationError where one lives.
    """
    # Only what starts needs the servers' libraries: ending must work without them.
    from stack.supervision.catalogue import services

    home = settings.absolute_home
    if is_supervised(home):
        raise ConfigurationError(
            f"a supervisor runs in {home} whose status cannot be read: `ultrathink stack down` ends it"
        )
    kept = adoptable(home, [service.name for service in services(settings)], digest(settings))
    end_left_behind(home, kept)
    return set(kept)


def start_supervisor(home: Path, lock: IO[str]) -> Identity:
    """A process group of its own, so that closing the terminal does not end the stack; it takes over the lock."""
    log = log_path(home, "supervisor")
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(
            supervisor_command(home),
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **marker(home, SUPERVISOR), LOCK: str(lock.fileno())},
            pass_fds=(lock.fileno(),),
            start_new_session=True,
        )
    # It outlives us on purpose: without a return code Popen would warn of that.
    process.returncode = 0
    return Identity.of(process.pid)


def supervisor_command(home: Path) -> list[str]:
    """What runs the supervisor of a home folder that is prepared."""
    return [sys.executable, "-m", "stack.supervision.supervisor", os.fspath(home)]


def wait_until_ready(
    home: Path, show: Callable[[StackStatus], None], supervisor: Identity | None = None
) -> StackStatus:
    """Follow the status file until all is ready that may run. Raises ServiceUnavailable with the log's end.

    A process that answers and has work to do first is waited for as long as that takes.
    """
    deadline = time.monotonic() + UP_TIMEOUT_S
    while time.monotonic() < deadline:
        status = read_status(home)
        if status is None and supervisor is not None and supervisor.find() is None:
            raise ServiceUnavailable(failure(home, "supervisor", "it ended"))
        if status is not None:
            show(status)
            if status.settled:
                return status
            if any(s.busy for s in status.services):
                deadline = time.monotonic() + UP_TIMEOUT_S
            for service in status.services:
                if service.state == FAILED:
                    raise ServiceUnavailable(failure(home, service.name, service.detail))
            if not status.alive:
                raise ServiceUnavailable(failure(home, "supervisor", "it ended"))
        time.sleep(0.1)
    slow = ", ".join(s.name for s in status.services if s.state != READY and not s.held) if status else "supervisor"
    raise ServiceUnavailable(failure(home, slow.split(",")[0], f"not ready after {UP_TIMEOUT_S:.0f} s: {slow}"))


def failure(home: Path, name: str, why: str) -> str:
    """A sentence and the last lines of the log."""
    path = log_path(home, name)
    lines = "\n".join(f"  {line}" for line in tail(path, 15))
    return f"{name} did not start: {why}\nThe end of {path}:\n{lines or '  (empty)'}"


def down(home: Path, *, purge: bool = False) -> bool:
    """End what `up` started in this home folder, and nothing else. Returns False if nothing ran."""
    status = read_status(home)
    supervisors = [status.supervisor] if status is not None else []
    # One whose status cannot be read is known by its mark.
    supervisors += [identity for name, identity in left_behind(home) if name == SUPERVISOR]
    ended = [end(one, signal.SIGTERM, timeout_s=DOWN_TIMEOUT_S) for one in supervisors]
    ran = end_left_behind(home) > 0 or any(ended)
    status_path(home).unlink(missing_ok=True)
    if purge:
        delete_data(home)
    return ran


def delete_data(home: Path) -> list[str]:
    """Delete what a stack made in its home folder, and that if it is empty then; returns what is left, by name."""
    if not is_started(home):
        return []
    adopt(home)
    left = [name for name in delete(home) if name not in FILES]
    if set(left) & set(FOLDERS):
        # It stays a stack's home, or the next start would be refused.
        disown(home)
        return left
    for name in (*FILES, RECORD):
        (home / name).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        home.rmdir()
    return left


def folders_of(repository: Path, home: Path, *, store: bool = False) -> list[str]:
    """A model repository and its exporters' own folder, by name, where they lie right in the home folder."""
    folder = repository.expanduser().resolve()
    own = [folder, state_folder(folder), *([store_folder(folder)] if store else [])]
    return [one.name for one in own] if folder.parent == home else []


def restart(home: Path, name: str, reason: str) -> ServiceStatus:
    """Have the supervisor end one service and start it again; waits until it answers, or is held.

    Raises:
        ConfigurationError: nothing runs here, or there is no such service.
        ServiceUnavailable: it did not come back.
    """
    status = read_status(home)
    if status is None or not status.alive:
        raise ConfigurationError(f"nothing runs in {home}: start it with `ultrathink stack up`")
    if name not in (names := [s.name for s in status.services]):
        raise ConfigurationError(f"there is no {name!r}; there are: {', '.join(names)}")
    before = next(s for s in status.services if s.name == name)
    ask(home, "restart", name, reason)
    deadline = time.monotonic() + UP_TIMEOUT_S
    while time.monotonic() < deadline:
        if (status := read_status(home)) is None or not status.alive:
            raise ServiceUnavailable(failure(home, "supervisor", "it ended"))
        now = next((s for s in status.services if s.name == name), before)
        if now.held or (now.state == READY and now.process != before.process):
            return now
        if now.state == FAILED and now.restarts > before.restarts:
            raise ServiceUnavailable(failure(home, name, now.detail))
        if now.busy:
            deadline = time.monotonic() + UP_TIMEOUT_S
        time.sleep(0.05)
    raise ServiceUnavailable(failure(home, name, f"not ready after {UP_TIMEOUT_S:.0f} s"))
