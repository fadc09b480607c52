"""PostgreSQL: connecting, and what its client raises as our errors."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from psycopg import Connection, DataError, Error, ProgrammingError, connect, sql
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb
from psycopg_pool import ConnectionPool, PoolTimeout

from connectors.addresses import scrubbed, shown
from trading.errors import BadRecord, ConfigurationError, ServiceUnavailable

__all__ = [
    "Connection",
    "Error",
    "Jsonb",
    "connect",
    "connect_url",
    "dict_row",
    "is_no_column",
    "is_no_table",
    "open_pool",
    "pooled",
    "sql",
    "translated",
    "translating",
]
CONNECT_S = 5
NO_TABLE, NO_COLUMN = "42P01", "42703"
REFUSED = frozenset({"22", "23", "54"})


def refuse_no_address(url: str) -> None:
    """Raises ConfigurationError, without the password."""
    try:
        conninfo_to_dict(url)
    except ProgrammingError:
        # What libpq says repeats the whole address.
        raise ConfigurationError(
            f"{shown(url)} is no address of PostgreSQL: give postgresql://USER:PASSWORD@HOST:PORT/NAME"
        ) from None


def connect_url(url: str) -> Connection:
    """A connection. Raises ServiceUnavailable, or ConfigurationError for a wrong address; without its password."""
    refuse_no_address(url)
    try:
        # A server that is gone without a word is noticed within half a minute.
        return connect(
            url, connect_timeout=CONNECT_S, keepalives_idle=10, keepalives_interval=5, keepalives_count=3,
            tcp_user_timeout=20_000,
        )  # fmt: skip
    except Error as error:
        said = scrubbed(str(error).strip(), url)
        raise ServiceUnavailable(f"PostgreSQL at {shown(url)} cannot be used: {said}") from None


def open_pool(url: str, size: int, options: str = "") -> ConnectionPool[Connection]:
    """At most so many connections, made when they are needed and again where they are gone; none is waited for.

    `options` are settings of each session, as libpq has them. Raises ConfigurationError for a wrong address,
    without its password.
    """
    refuse_no_address(url)
    # What it would log of a server that is gone is said by whoever asks.
    logging.getLogger("psycopg.pool").setLevel(logging.CRITICAL)
    return ConnectionPool(
        url, min_size=0, max_size=size, open=True, check=ConnectionPool.check_connection, max_idle=60.0,
        reconnect_timeout=1.0,
        kwargs={
            "connect_timeout": 2, "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3,
            "tcp_user_timeout": 20_000, **({"options": options} if options else {}),
        },
    )  # fmt: skip


@contextmanager
def pooled(pool: ConnectionPool[Connection], wait_s: float) -> Iterator[Connection]:
    """A connection of the pool within a transaction. Raises ServiceUnavailable where none is to be had in time."""
    try:
        with pool.connection(timeout=wait_s) as connection:
            yield connection
    except PoolTimeout:
        raise ServiceUnavailable(
            f"PostgreSQL at {shown(pool.conninfo if isinstance(pool.conninfo, str) else '')} does not answer"
        ) from None


def is_no_table(error: BaseException | None) -> bool:
    """Whether PostgreSQL does not know a table that it was asked for."""
    return isinstance(error, Error) and error.sqlstate == NO_TABLE


def is_no_column(error: BaseException | None) -> bool:
    """Whether PostgreSQL does not know a column that it was asked for."""
    return isinstance(error, Error) and error.sqlstate == NO_COLUMN


def translated(error: Error, what: str) -> ServiceUnavailable:
    """Our error: what could not be done, and what PostgreSQL said."""
    return ServiceUnavailable(f"{what}: {str(error).strip()}")


@contextmanager
def translating(what: str) -> Iterator[None]:
    """Raise for whatever PostgreSQL's client raises within: BadRecord where it is the values that are refused.

    By the class of the SQLSTATE: data exceptions, integrity constraints, program limits. Everything else is
    ServiceUnavailable.
    """
    try:
        yield
    except Error as error:
        # What the client itself cannot send has no state.
        if isinstance(error, DataError) or (error.sqlstate or "")[:2] in REFUSED:
            raise BadRecord(f"{what}: {str(error).strip()}") from error
        raise translated(error, what) from error
