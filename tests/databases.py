"""A PostgreSQL of its own for tests that need no other server."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import contextmanager
from itertools import count

from connectors.migrations import migrate
from services.forensics.bootstrap import MIGRATIONS, SCHEMA
from stack.servers import postgres
from stack.servers.identity import identity
from stack.servers.server import NotReady
from stack.servers.settings import ServerPorts, StackSettings


@contextmanager
def running_postgres(home):
    """The stack's PostgreSQL alone, with its roles and databases; its settings."""
    settings = StackSettings(profile="servers", home=home, ports=ServerPorts.automatic())
    service = postgres.service(settings)
    service.prepare()
    with (home / "postgres.log").open("wb") as log:
        process = subprocess.Popen(
            service.command(),
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **identity(service.user),
        )
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                service.probe()
                break
            except NotReady:
                assert process.poll() is None, (home / "postgres.log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.05)
        service.on_ready()
        yield settings
    finally:
        os.killpg(process.pid, signal.SIGINT)
        process.wait(20)


def migrated(settings, to="head"):
    """The trail's schema."""
    return migrate(settings.postgres_url("ultrathink"), MIGRATIONS, SCHEMA, to)


@contextmanager
def fresh_database(settings):
    """Settings of the same server with another, empty database in the place of the desk's; dropped at the end."""
    name = f"other_{next(NUMBERS)}"
    with postgres.connect(settings) as connection:
        connection.execute(f"CREATE DATABASE {name} OWNER ultrathink")
    try:
        yield Elsewhere(settings, name)
    finally:
        with postgres.connect(settings) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def empty_orchestrator(settings):
    """The address of the orchestrator's database, as the stack makes it, with nothing in it."""
    with postgres.connect(settings) as connection:
        connection.execute("DROP DATABASE IF EXISTS orchestrator WITH (FORCE)")
        connection.execute("CREATE DATABASE orchestrator OWNER orchestrator")
    return settings.postgres_url("orchestrator")


NUMBERS = count()


class Elsewhere:
    """Settings whose database bears another name."""

    def __init__(self, settings, name):
        self._settings, self._name = settings, name

    def __getattr__(self, name):
        return getattr(self._settings, name)

    def postgres_url(self, role, database=""):
        return self._settings.postgres_url(role, self._name)
