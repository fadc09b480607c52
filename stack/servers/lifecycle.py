"""`up`, `down` and `status` of the stack in a home folder."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from stack.servers.identity import Identity, end
from stack.servers.log_files import tail
from stack.servers.ownership import RECORD, adopt, claim, delete, disown
from stack.servers.ports import holder, is_free
from stack.servers.settings import STORED, StackSettings, differences, free_disk_mb, is_started, load
from stack.servers.status import FAILED, StackStatus, log_path, read_status, status_path
from trading.errors import ConfigurationError, ServiceUnavailable

UP_TIMEOUT_S = 180.0
#: Folders of the home folder that the servers write, and nobody else may.
FOLDERS = (
    "kafka",
    "redis",
    "postgres",
    "mlflow",
    "triton",
    "prometheus",
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
        check_same(settings, load(home))
        return wait_until_ready(home, show)
    if current is not None:
        end_orphans(current)
    check_ports(settings)
    if free_disk_mb(home) < settings.least_disk_mb:
        raise ConfigurationError(
            f"less than {settings.least_disk_mb} MB is free for {home}: free some or move --home"
        )
    check_brokers(settings)
    # A stack of before there was such a record used whatever lay there; it goes on, and `purge` leaves that alone.
    if is_started(home):
        adopt(home)
    claim(home, FOLDERS, alone=not is_started(home))
    claim(home, folders_of(settings.model_repository, home), alone=False)
    settings.save()
    settings.tell_clients(alone=True)
    status_path(home).unlink(missing_ok=True)
    supervisor = start_supervisor(home)
    try:
        return wait_until_ready(home, show, supervisor)
    except BaseException:
        # Through its status file where there is one, and by itself where it did not get so far.
        down(home)
        end(supervisor, timeout_s=60.0)
        raise


def check_brokers(settings: StackSettings) -> None:
    """Raise ConfigurationError when the data of another number of brokers lies in the folder."""
    folders = {p.name for p in (settings.absolute_home / "kafka").glob("[1-9]")}
    if folders and len(folders) != settings.brokers:
        raise ConfigurationError(
            f"{settings.absolute_home} holds the data of {len(folders)} broker(s), --brokers says "
            f"{settings.brokers}: use that number, another --home, or `ultrathink stack down --purge`"
        )


def start_supervisor(home: Path) -> Identity:
    """A process group of its own, so that closing the terminal does not end the stack."""
    log = log_path(home, "supervisor")
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "stack.servers.supervisor", os.fspath(home)],
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    # It outlives us on purpose: without a return code Popen would warn of that.
    process.returncode = 0
    return Identity.of(process.pid)


def wait_until_ready(
    home: Path, show: Callable[[StackStatus], None], supervisor: Identity | None = None
) -> StackStatus:
    """Follow the status file until all is ready. Raises ServiceUnavailable with the log's end."""
    deadline = time.monotonic() + UP_TIMEOUT_S
    while time.monotonic() < deadline:
        status = read_status(home)
        if status is None and supervisor is not None and supervisor.find() is None:
            raise ServiceUnavailable(failure(home, "supervisor", "it ended"))
        if status is not None:
            show(status)
            if status.ready:
                return status
            for service in status.services:
                if service.state == FAILED:
                    raise ServiceUnavailable(failure(home, service.name, service.detail))
            if not status.alive:
                raise ServiceUnavailable(failure(home, "supervisor", "it ended"))
        time.sleep(0.1)
    slow = ", ".join(s.name for s in status.services if s.state != "ready") if status else "supervisor"
    raise ServiceUnavailable(failure(home, slow.split(",")[0], f"not ready after {UP_TIMEOUT_S:.0f} s: {slow}"))


def failure(home: Path, name: str, why: str) -> str:
    """A sentence and the last lines of the log."""
    path = log_path(home, name)
    lines = "\n".join(f"  {line}" for line in tail(path, 15))
    return f"{name} did not start: {why}\nThe end of {path}:\n{lines or '  (empty)'}"


def down(home: Path, *, purge: bool = False) -> bool:
    """End what `up` started in this home folder, and nothing else. Returns False if nothing ran."""
    status = read_status(home)
    ran = False
    if status is not None:
        ran = end(status.supervisor, signal.SIGTERM, timeout_s=60.0)
        end_orphans(read_status(home) or status)
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


def folders_of(repository: Path, home: Path) -> list[str]:
    """A model repository and its exporters' own folder, by name, where they lie right in the home folder."""
    folder = repository.expanduser().resolve()
    return [folder.name, f".{folder.name}.ultrathink"] if folder.parent == home else []


def check_same(wanted: StackSettings, running: StackSettings) -> None:
    """Raise ConfigurationError where something else is asked for than what runs."""
    if found := differences(running, wanted):
        raise ConfigurationError(
            "a stack runs here that was started otherwise: " + "; ".join(found) + ". End it first, "
            "`ultrathink stack down`, or ask for what runs"
        )


def end_orphans(status: StackStatus) -> None:
    """End services whose supervisor was killed."""
    for service in reversed(status.services):
        if isinstance(service.process, Identity):
            end(service.process)


def check_ports(settings: StackSettings) -> None:
    """Raise ConfigurationError for the first port that something else listens on."""
    # Only what starts needs the servers' libraries: ending must work without them.
    from stack.servers.catalogue import services

    for service in services(settings):
        for port in service.ports:
            if not is_free(port):
                raise ConfigurationError(
                    f"port {port}, which {service.name} needs, is held by {holder(port)}: end that, set "
                    f"{port_variable(settings, port)}, or use `--ports auto`"
                )


def port_variable(settings: StackSettings, port: int) -> str:
    """The environment variable that moves a port; a list where a setting holds several."""
    for name, value in settings.ports.model_dump().items():
        if value == port:
            return f"ULTRATHINK_PORTS__{name.upper()}"
        if isinstance(value, tuple) and port in value:
            return f"ULTRATHINK_PORTS__{name.upper()}='[{', '.join(str(p + 100) for p in value)}]'"
    return "another port"
