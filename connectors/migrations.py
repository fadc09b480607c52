"""Versions of a database's schema, by Alembic: one folder of scripts a schema."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from psycopg import Error
from sqlalchemy import create_engine, pool, text
from sqlalchemy.engine import Connection, make_url
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from connectors.addresses import scrubbed, shown
from trading.errors import ConfigurationError, ServiceUnavailable

#: Two who migrate at once wait for each other on this advisory lock.
LOCK = 7_316_520_041
CONNECT_S = 5


@contextmanager
def connected(url: str) -> Iterator[Connection]:
    """A connection in one transaction, which is committed at the end. Raises ServiceUnavailable."""
    try:
        address = make_url(url).set(drivername="postgresql+psycopg")
        engine = create_engine(address, poolclass=pool.NullPool, connect_args={"connect_timeout": CONNECT_S})
        with engine.begin() as connection:
            yield connection
    except ValueError as error:
        raise ConfigurationError(f"{shown(url)} is no address of PostgreSQL: {scrubbed(str(error), url)}") from None
    except CommandError as error:
        raise ConfigurationError(f"the schema at {shown(url)} cannot be migrated: {error}") from error
    except (OperationalError, psycopg.OperationalError) as error:
        said = scrubbed(str(getattr(error, "orig", None) or error).strip(), url)
        raise ServiceUnavailable(f"PostgreSQL at {shown(url)} does not answer: {said}") from None
    except (SQLAlchemyError, Error) as error:
        said = scrubbed(str(getattr(error, "orig", None) or error).strip(), url)
        raise ServiceUnavailable(f"the schema at {shown(url)} cannot be migrated: {said}") from None


def migrate(url: str, scripts: Path, schema: str, to: str = "head") -> tuple[str, str]:
    """Bring a schema to a version, all in one transaction; returns the versions before and after, "" for none.

    Args:
        url: of a database, as its owner.
        scripts: folder of `env.py` and `versions/`.
        schema: made where it is missing; the version is kept in it.
        to: the version, "head" for the newest.

    Raises:
        ServiceUnavailable: PostgreSQL does not answer, or refuses.
        ConfigurationError: the database is of a version that these scripts do not know.
    """
    # Alembic tells each step to whoever listens at this level.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    with connected(url) as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
        connection.execute(text(f'CREATE SCHEMA IF NOT EXISTS "{schema}"'))
        before = version_at(connection, schema)
        config = Config()
        config.set_main_option("script_location", str(scripts).replace("%", "%%"))
        config.attributes |= {"connection": connection, "schema": schema}
        command.upgrade(config, to)
        return before, version_at(connection, schema)


def version_at(connection: Connection, schema: str) -> str:
    """Of a schema; "" where it has none."""
    context = MigrationContext.configure(connection, opts={"version_table_schema": schema})
    return context.get_current_revision() or ""


def versions_of(scripts: Path) -> list[str]:
    """Every version that the scripts know, the oldest first."""
    config = Config()
    config.set_main_option("script_location", str(scripts).replace("%", "%%"))
    return [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()][::-1]
