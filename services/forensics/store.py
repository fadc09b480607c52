"""Decisions in PostgreSQL; a hypertable where the TimescaleDB extension is installed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from connectors import postgres
from trading.decision.wire import decode_decision

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

SCHEMA = """
CREATE TABLE IF NOT EXISTS decisions (
    decision_id text NOT NULL,
    event_time timestamptz NOT NULL,
    decided_at timestamptz NOT NULL,
    symbol text NOT NULL,
    action text NOT NULL,
    reason text NOT NULL,
    quantity double precision NOT NULL,
    reference_price double precision,
    position_after double precision NOT NULL,
    model_version text NOT NULL,
    evidence jsonb NOT NULL,
    PRIMARY KEY (decision_id, event_time)
);
CREATE INDEX IF NOT EXISTS decisions_symbol_time ON decisions (symbol, event_time DESC);
"""
HAS_TIMESCALE = "SELECT 1 FROM pg_extension WHERE extname = 'timescaledb'"
HYPERTABLE = "SELECT create_hypertable('decisions', by_range('event_time'), if_not_exists => true)"
INSERT = """
INSERT INTO decisions VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (decision_id, event_time) DO NOTHING
"""


class DecisionArchive:
    """Stores encoded decisions; one that is there already is left as it is."""

    def __init__(self, url: str) -> None:
        """Connect and create what is missing. Raises ServiceUnavailable."""
        self._connection = postgres.connect_url(url)
        where = url.rpartition("@")[2]
        with postgres.translating(f"PostgreSQL at {where} cannot be used"), self._connection.transaction():
            self._connection.execute(SCHEMA)
            self.hypertable = self._connection.execute(HAS_TIMESCALE).fetchone() is not None
            if self.hypertable:
                self._connection.execute(HYPERTABLE)

    def store(self, payloads: Sequence[bytes]) -> int:
        """Store many in one transaction; returns how many were new. Raises ServiceUnavailable."""
        with (
            postgres.translating("decisions cannot be stored"),
            self._connection.transaction(),
            self._connection.cursor() as cursor,
        ):
            cursor.executemany(INSERT, [row(p) for p in payloads])
            return cursor.rowcount

    def find(self, decision_id: str) -> str | None:
        """A decision's evidence as JSON text; None when it is not stored."""
        query = "SELECT evidence::text FROM decisions WHERE decision_id = %s"
        found = self._connection.execute(query, (decision_id,)).fetchone()
        return None if found is None else str(found[0])

    def count(self) -> int:
        """Decisions stored."""
        found = self._connection.execute("SELECT count(*) FROM decisions").fetchone()
        return int(found[0]) if found else 0

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def row(payload: bytes) -> tuple[object, ...]:
    """The columns of an encoded decision. Raises msgspec.DecodeError for anything else."""
    d = decode_decision(payload)
    return (
        d.decision_id,
        to_time(d.event_time_ns),
        to_time(d.decided_at_ns),
        d.symbol,
        d.action.value,
        d.reason.value,
        d.quantity,
        d.reference_price,
        d.position_after,
        d.model_version,
        payload.decode(),
    )


def to_time(time_ns: int) -> datetime:
    """PostgreSQL's resolution is the microsecond; the evidence keeps the nanoseconds."""
    return EPOCH + timedelta(microseconds=time_ns // 1000)
