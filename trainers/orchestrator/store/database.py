"""The database that all parts of the store share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from connectors.postgres import Connection, open_pool, pooled, translating

#: What asks at once: the sweep, the API, and each step that is watched.
CONNECTIONS = 8
WAIT_S = 10.0
#: No question of ours takes so long, and nobody is to wait for one that does.
STATEMENT_MS = 15_000


class Database:
    """Connections that are made when they are needed, and made again where PostgreSQL was away."""

    def __init__(self, url: str) -> None:
        """Nothing is asked yet. Raises ConfigurationError for a wrong address."""
        self._pool = open_pool(url, CONNECTIONS, options=f"-c statement_timeout={STATEMENT_MS}")

    def close(self) -> None:
        """Let go of the connections."""
        self._pool.close()

    @contextmanager
    def transaction(self, what: str) -> Iterator[Connection[Any]]:
        """Everything within it, or nothing. Raises ServiceUnavailable and BadRecord, which say `what` failed."""
        with translating(what), pooled(self._pool, WAIT_S) as connection:
            yield connection

    def now(self) -> datetime:
        """PostgreSQL's clock: everybody's, whose leases are compared. In UTC. Raises ServiceUnavailable."""
        with self.transaction("the orchestrator's clock") as connection:
            row = connection.execute("SELECT now()").fetchone()
        assert row is not None  # noqa: S101 - one row, always
        found: datetime = row[0]
        return found.astimezone(UTC)
