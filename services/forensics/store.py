"""Decisions in PostgreSQL; a hypertable where the TimescaleDB extension is installed.

What is published as a decision and is none, or what PostgreSQL refuses, is set aside in a table of its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import structlog

from connectors import postgres
from services.forensics.ports import Kept
from trading.decision.wire import decode_decision
from trading.errors import BadRecord

log = structlog.get_logger()
Row = tuple[object, ...]
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
CREATE TABLE IF NOT EXISTS undecodable_decisions (
    digest bytea PRIMARY KEY,
    found_at timestamptz NOT NULL,
    reason text NOT NULL,
    payload bytea NOT NULL
);
CREATE INDEX IF NOT EXISTS decisions_symbol_time ON decisions (symbol, event_time DESC);
"""
HAS_TIMESCALE = "SELECT 1 FROM pg_extension WHERE extname = 'timescaledb'"
HYPERTABLE = "SELECT create_hypertable('decisions', by_range('event_time'), if_not_exists => true)"
INSERT = """
INSERT INTO decisions VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (decision_id, event_time) DO NOTHING
"""
#: By its digest: what comes again is kept once.
SET_ASIDE = "INSERT INTO undecodable_decisions VALUES (%s, now(), %s, %s) ON CONFLICT (digest) DO NOTHING"


class DecisionArchive:
    """Stores encoded decisions; one that is there already is left as it is."""

    def __init__(self, url: str) -> None:
        """Connect and create what is missing. Raises ServiceUnavailable."""
        self._url = url
        self._connection = self._connect()

    def store(self, payloads: Sequence[bytes]) -> Kept:
        """Store many in one transaction, on a new connection where the last one is gone.

        Raises:
            ServiceUnavailable: nothing was stored.
        """
        good, bad = [], []
        for payload in payloads:
            try:
                good.append(row(payload))
            except BadRecord as error:
                bad.append(aside(payload, str(error)))
        try:
            return self._store(good, bad)
        except BadRecord:
            # One of them is no text or number of PostgreSQL's: the others must not wait for it.
            for refused in self._refused(good):
                good.remove(refused)
                bad.append(aside(str(refused[-1]).encode(), "PostgreSQL refuses it"))
            return self._store(good, bad)

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

    def _connect(self) -> postgres.Connection:
        connection = postgres.connect_url(self._url)
        where = self._url.rpartition("@")[2]
        with postgres.translating(f"PostgreSQL at {where} cannot be used"), connection.transaction():
            connection.execute(SCHEMA)
            self.hypertable = connection.execute(HAS_TIMESCALE).fetchone() is not None
            if self.hypertable:
                connection.execute(HYPERTABLE)
        return connection

    def _store(self, good: Sequence[Row], bad: Sequence[Row]) -> Kept:
        if self._connection.closed or self._connection.broken:
            self._connection = self._connect()
        with (
            postgres.translating("decisions cannot be stored"),
            self._connection.transaction(),
            self._connection.cursor() as cursor,
        ):
            counts = []
            for statement, rows in ((INSERT, good), (SET_ASIDE, bad)):
                cursor.executemany(statement, rows)
                counts.append(cursor.rowcount if rows else 0)
        if bad:
            log.warning("no decisions: set aside", count=len(bad), reason=str(bad[0][1])[:200])
        return Kept(*counts)

    def _refused(self, rows: Sequence[Row]) -> list[Row]:
        found = []
        for one in rows:
            try:
                with (
                    postgres.translating("decisions cannot be stored"),
                    self._connection.transaction(force_rollback=True),
                ):
                    self._connection.execute(INSERT, one)
            except BadRecord:
                found.append(one)
        return found


def row(payload: bytes) -> Row:
    """The columns of an encoded decision. Raises BadRecord for anything else."""
    d = decode_decision(payload)
    try:
        event_time, decided_at = to_time(d.event_time_ns), to_time(d.decided_at_ns)
        text = payload.decode()
    except OverflowError as error:
        raise BadRecord(f"its time is none: {error}") from None
    except UnicodeDecodeError as error:
        # In a field that nobody here reads.
        raise BadRecord(str(error)) from None
    return (
        d.decision_id,
        event_time,
        decided_at,
        d.symbol,
        d.action.value,
        d.reason.value,
        d.quantity,
        d.reference_price,
        d.position_after,
        d.model_version,
        text,
    )


def aside(payload: bytes, reason: str) -> Row:
    """The columns of what is no decision."""
    return hashlib.sha256(payload).digest(), reason, payload


def to_time(time_ns: int) -> datetime:
    """PostgreSQL's resolution is the microsecond; the evidence keeps the nanoseconds. Raises OverflowError."""
    return EPOCH + timedelta(microseconds=time_ns // 1000)
