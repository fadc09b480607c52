"""PostgreSQL by the names of postgres_exporter."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from connectors.postgres import Connection, Error, connect_url, translated

SQL = """
    SELECT datname, numbackends, xact_commit, xact_rollback, deadlocks, blks_hit, blks_read,
           CASE WHEN has_database_privilege(datname, 'CONNECT') THEN pg_database_size(datname) END
    FROM pg_stat_database WHERE datname IS NOT NULL AND datname NOT LIKE 'template%'
"""
COUNTERS = ("xact_commit", "xact_rollback", "deadlocks", "blks_hit", "blks_read")


class PostgresSource:
    """Implements Source over one connection, which is made again where it broke."""

    name = "postgres"

    def __init__(self, url: str) -> None:
        """Nothing is connected yet; `url` is of a role that may read."""
        self._url = url
        self._connection: Connection | None = None

    def look(self) -> Sequence[Metric]:
        """See Source. Raises ServiceUnavailable."""
        try:
            if self._connection is None or self._connection.closed:
                self._connection = connect_url(self._url)
                self._connection.autocommit = True
            rows = self._connection.execute(SQL).fetchall()
            most = self._connection.execute("SELECT current_setting('max_connections')::int").fetchone()
        except Error as error:
            self.close()
            raise translated(error, "PostgreSQL cannot be looked at") from error
        return families(rows, most[0] if most else 0)

    def close(self) -> None:
        """See Source."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def families(rows: Sequence[tuple[object, ...]], most: int) -> list[Metric]:
    """What is shown of its databases."""
    backends = GaugeMetricFamily("pg_stat_database_numbackends", "Connections to a database.", labels=["datname"])
    size = GaugeMetricFamily("pg_database_size_bytes", "Size of a database on disk.", labels=["datname"])
    counters = {
        name: CounterMetricFamily(f"pg_stat_database_{name}", f"{name} of pg_stat_database.", labels=["datname"])
        for name in COUNTERS
    }
    for name, connected, *counts, bytes_ in rows:
        backends.add_metric([str(name)], float(str(connected)))
        for family, count in zip(counters.values(), counts, strict=True):
            family.add_metric([str(name)], float(str(count)))
        if bytes_ is not None:
            size.add_metric([str(name)], float(str(bytes_)))
    limit = GaugeMetricFamily("pg_settings_max_connections", "Connections that it takes.", value=most)
    return [backends, size, limit, *counters.values()]
