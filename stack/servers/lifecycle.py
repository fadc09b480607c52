"""`up`, `down` and `status` of the stack in a home folder."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from stack.servers.identity import Identity, end
from stack.servers.log_files import tail
from stack.servers.ports import holder, is_free
from stack.servers.settings import StackSettings, free_disk_mb
from stack.servers.status import FAILED, StackStatus, log_path, read_status, status_path
from trading.errors import ConfigurationError, ServiceUnavailable

UP_TIMEOUT_S = 180.0
MIN_DISK_MB = 1024
#: Everything that a stack writes into its home folder; the file that marks it comes last.
DATA = (
    *(
        "kafka",
        "redis",
        "postgres",
        "mlflow",
        "triton",
        "prometheus",
        "logs",
        "run",
        "secrets",
        "report",
        "loadtest",
        "model_repository",
    ),
    *(".demo", ".models.staging", ".model_repository.staging", "stack.json"),
)


def up(settings: StackSettings, show: Callable[[StackStatus], None]) -> StackStatus:
    """Start the stack and wait until every service answers in its own protocol.

    Args:
        settings: what to start.
        show: called with each new status, for live progress.

    Returns:
        The status, all ready. A stack that runs already is left as it is.

    Raises:
        ConfigurationError: a port is taken, or something is not installed.
        ServiceUnavailable: a service did not come up; nothing is left running.
    """
    home = settings.absolute_home
    current = read_status(home)
    if current is not None and current.alive:
        return wait_until_ready(home, show)
    if current is not None:
        end_orphans(current)
    check_ports(settings)
    if free_disk_mb(home) < MIN_DISK_MB:
        raise ConfigurationError(f"less than {MIN_DISK_MB} MB is free for {home}: free some or move --home")
    check_brokers(settings)
    settings.save()
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


def delete_data(home: Path) -> None:
    """Delete what a stack wrote into its home folder, by name: the folder may be anybody's."""
    if not (home / "stack.json").is_file():
        return
    for name in DATA:
        path = home / name
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        home.rmdir()


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
