"""The trail as it is read: by whoever verifies, proves, and looks a record up."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from itertools import count
from typing import Any, NamedTuple

from msgspec import Struct

from connectors import postgres
from connectors.postgres import sql
from services.forensics.columns import Values
from services.forensics.kinds import BY_NAME, KINDS, columns_of
from services.forensics.merkle.hashing import hash_leaf
from services.forensics.ports import LogName
from services.forensics.records import Record, leaf_of
from trading.errors import ConfigurationError

CHUNK = 2000
#: So many retired leaves are one row at the most.
RUN = 4096
LAST_BEFORE = """
SELECT from_size, to_size, first_offset, last_offset, first_event_time, last_event_time, root, peaks
FROM trail.batches WHERE log = %s AND from_size < %s ORDER BY from_size DESC LIMIT 1
"""
BATCHES = """
SELECT from_size, to_size, first_offset, last_offset, first_event_time, last_event_time, root, peaks
FROM trail.batches WHERE log = %s AND from_size >= %s AND to_size <= %s ORDER BY from_size
"""
AROUND = """
SELECT first_offset, last_offset, first_event_time, last_event_time FROM trail.batches
WHERE log = %s AND from_size < %s AND from_size >= coalesce(
    (SELECT max(from_size) FROM trail.batches WHERE log = %s AND from_size <= %s), 0
)
"""
#: One row a leaf; runs are as they were retired.
RETIRED = """
SELECT log, record_offset, first_index + place - 1, substring(leaves FROM 32 * place::int - 31 FOR 32)
FROM trail.retired, unnest(record_offsets) WITH ORDINALITY AS one (record_offset, place)
WHERE log = %s AND last_offset >= %s AND record_offset >= %s AND record_offset <= %s ORDER BY record_offset, 3
"""
RETIRED_LEAVES = """
SELECT first_index + place - 1, substring(leaves FROM 32 * place::int - 31 FOR 32)
FROM trail.retired, generate_series(1, cardinality(record_offsets)) AS place
WHERE log = %(log)s AND first_index < %(end)s AND first_index + cardinality(record_offsets) > %(begin)s
    AND first_index > %(begin)s - %(run)s
    AND first_index + place - 1 >= %(begin)s AND first_index + place - 1 < %(end)s
"""
TILES = "SELECT level, tile_index, hash FROM trail.tiles WHERE log = %s ORDER BY level, tile_index"
TILE_SPAN = """
SELECT hash FROM trail.tiles WHERE log = %s AND level = %s AND tile_index >= %s AND tile_index < %s
ORDER BY tile_index
"""
#: The place of the columns that a record is made of.
OFFSET, INDEX, EVENT_TIME, LEAF = 1, 2, 3, 9
MOST = 2**63 - 1


class LogRow(Struct, frozen=True):
    """A log as the database has it."""

    id: int
    name: LogName
    kind: str


class BatchRow(Struct, frozen=True):
    """Records that were stored together, and the tree after them."""

    from_size: int
    to_size: int
    first_offset: int
    last_offset: int
    first_event_time: Any
    last_event_time: Any
    root: bytes
    peaks: bytes


class RetiredRow(NamedTuple):
    """A record that is gone: its place, and the hash of its leaf. Its first fields are those of a row."""

    log: int
    record_offset: int
    leaf_index: int
    leaf: bytes


class Found(Struct, frozen=True):
    """A record of the trail, and where it is."""

    log: LogRow
    leaf_index: int
    record: Record


class TrailReader:
    """One view of the trail, as of its first question; ends with `close`."""

    def __init__(self, connection: postgres.Connection) -> None:
        """On a connection whose transaction somebody else ends; `opened` makes one of its own."""
        self._connection, self._number = connection, count()

    def logs(self) -> list[LogRow]:
        """In the order of their names."""
        found = self._all("SELECT id, topic_id, topic_partition, topic, kind FROM trail.logs")
        rows = [LogRow(row[0], LogName(row[1], row[2], row[3]), row[4]) for row in found]
        return sorted(rows, key=lambda row: row.name)

    def batches(self, log: int, from_size: int = 0, to_size: int = MOST) -> Iterator[BatchRow]:
        """In order."""
        for row in self._stream(BATCHES, (log, from_size, to_size)):
            yield to_batch(row)

    def rows(self, kind: str, log: int, first_offset: int, last_offset: int = MOST) -> Iterator[Values]:
        """All columns of a log's rows, as `kinds.columns_of` names them, by offset."""
        query = sql.SQL(
            "SELECT {} FROM trail.{} WHERE log = %s AND record_offset BETWEEN %s AND %s "
            "ORDER BY record_offset, event_time"
        ).format(sql.SQL(", ").join(map(sql.Identifier, columns_of(BY_NAME[kind]))), sql.Identifier(kind))
        return self._stream(query, (log, first_offset, last_offset))

    def retired(self, log: int, first_offset: int = 0, last_offset: int = MOST) -> Iterator[RetiredRow]:
        """What stays of records that were old enough to go, by offset."""
        for row in self._stream(RETIRED, (log, first_offset, first_offset, last_offset)):
            yield RetiredRow(row[0], row[1], row[2], bytes(row[3]))

    def offsets(self, kind: str, log: int) -> Iterator[int]:
        """Of every record that is or was on record, ascending."""
        query = sql.SQL(
            "SELECT record_offset FROM trail.{} WHERE log = %(log)s UNION ALL "
            "SELECT unnest(record_offsets) FROM trail.retired WHERE log = %(log)s ORDER BY 1"
        ).format(sql.Identifier(kind))
        for row in self._stream(query, {"log": log}):
            yield int(row[0])

    def last_retired(self, log: int) -> int | None:
        """The last offset of what was retired; None where nothing was."""
        found = self._all("SELECT max(last_offset) FROM trail.retired WHERE log = %s", (log,))
        return None if found[0][0] is None else int(found[0][0])

    def counts(self, kind: str) -> dict[int, int]:
        """Log -> rows of a table."""
        query = sql.SQL("SELECT log, count(*) FROM trail.{} GROUP BY log").format(sql.Identifier(kind))
        return {int(row[0]): int(row[1]) for row in self._all(query)}

    def count(self) -> int:
        """Records on record, as the batches say."""
        found = self._all("SELECT coalesce(sum(to_size - from_size), 0)::bigint FROM trail.batches")
        return int(found[0][0])

    def batch_before(self, log: int, size: int) -> BatchRow | None:
        """The last that begins before a size."""
        found = self._all(LAST_BEFORE, (log, size))
        return to_batch(found[0]) if found else None

    def tiles(self, log: int) -> Iterator[tuple[int, int, bytes]]:
        """Level, index and hash, in order."""
        for level, index, content in self._stream(TILES, (log,)):
            yield level, index, bytes(content)

    def checkpoints(self) -> Iterator[tuple[int, Any, bytes]]:
        """Number, time and line, in order."""
        for number, at, line in self._stream(
            "SELECT number, signed_at, line FROM trail.checkpoints ORDER BY number"
        ):
            yield int(number), at, bytes(line)

    def last_number(self) -> int:
        """Of the newest checkpoint; -1 for none."""
        return int(self._all("SELECT coalesce(max(number), -1) FROM trail.checkpoints")[0][0])

    def checkpoint(self, number: int) -> bytes | None:
        """The line of this number; None where it is not there."""
        found = self._all("SELECT line FROM trail.checkpoints WHERE number = %s", (number,))
        return bytes(found[0][0]) if found else None

    def last_checkpoint(self) -> bytes | None:
        """The line of the highest number; None where there is none."""
        found = self._all("SELECT line FROM trail.checkpoints ORDER BY number DESC LIMIT 1")
        return bytes(found[0][0]) if found else None

    def alarms(self) -> list[tuple[int, Any, str, str]]:
        """Number, when, of what kind, and what; those that somebody has looked at, and what he said, too."""
        return [tuple(row) for row in self._all("SELECT id, raised_at, kind, detail FROM trail.alarms ORDER BY id")]

    def find(self, kind: str, column: str, value: str) -> list[Found]:
        """Records by one of the columns that are searched by, in the order of the log."""
        names = sql.SQL(", ").join(map(sql.Identifier, columns_of(BY_NAME[kind])))
        query = sql.SQL("SELECT {} FROM trail.{} WHERE {} = %s ORDER BY log, record_offset").format(
            names, sql.Identifier(kind), sql.Identifier(column)
        )
        # What was no UTF-8 on a command line is no text that PostgreSQL could have.
        rows = self._all(query, (value.encode("utf-8", "backslashreplace").decode(),))
        logs = {row.id: row for row in self.logs()} if rows else {}
        return [Found(logs[row[0]], row[INDEX], to_record(row)) for row in rows if row[0] in logs]

    def leaves(self, log: LogRow, begin: int, end: int) -> list[bytes]:
        """Hashes of the leaves `begin` to before `end`, as they are stored. Raises ConfigurationError for a gap."""
        around = self._all(AROUND, (log.id, end, log.id, begin))
        if not around:
            raise ConfigurationError(f"{log.name} has no records {begin} to {end - 1}")
        query = sql.SQL(
            "SELECT leaf, leaf_index FROM trail.{} WHERE log = %s AND record_offset BETWEEN %s AND %s "
            "AND event_time BETWEEN %s AND %s AND leaf_index >= %s AND leaf_index < %s ORDER BY leaf_index"
        ).format(sql.Identifier(log.kind))
        offsets, last = min(row[0] for row in around), max(row[1] for row in around)
        times, latest = min(row[2] for row in around), max(row[3] for row in around)
        found = self._all(query, (log.id, offsets, last, times, latest, begin, end))
        if len(found) != end - begin:
            found = self._with_retired(log, begin, end, found)
        if len(found) != end - begin:
            raise ConfigurationError(
                f"{log.name} has {len(found)} of the records {begin} to {end - 1}: "
                "`ultrathink forensics verify` tells more"
            )
        return [bytes(row[0]) for row in found]

    def _with_retired(self, log: LogRow, begin: int, end: int, found: Sequence[Values]) -> list[Values]:
        """Leaves with their indices, of which some are retired, in order."""
        leaves = {int(row[1]): row[0] for row in found}
        with postgres.translating("the trail cannot be read"):
            span = {"log": log.id, "begin": begin, "end": end, "run": RUN}
            for index, leaf in self._connection.execute(RETIRED_LEAVES, span, binary=True).fetchall():
                leaves.setdefault(int(index), leaf)
        return [(leaves[index], index) for index in sorted(leaves)]

    def record_at(self, log: LogRow, index: int) -> Record | None:
        """The record at a place of the tree, found by its batch; None where it is not there, or retired."""
        batch = self.batch_before(log.id, index + 1)
        if batch is None:
            return None
        rows = self.rows(log.kind, log.id, batch.first_offset, batch.last_offset)
        found = next((row for row in rows if row[INDEX] == index), None)
        return None if found is None else to_record(found)

    def tile_hashes(self, log: LogRow, level: int, begin: int, end: int) -> list[bytes]:
        """Of complete subtrees. Raises ConfigurationError where one is missing."""
        found = self._all(TILE_SPAN, (log.id, level, begin, end))
        if len(found) != end - begin:
            raise ConfigurationError(
                f"tiles of {log.name} are missing at level {level}: `ultrathink forensics verify` tells more"
            )
        return [bytes(row[0]) for row in found]

    def query(self, statement: str, values: Mapping[str, Any]) -> list[Values]:
        """Rows of a statement of ours, by its named values. Raises ServiceUnavailable."""
        with postgres.translating("the trail cannot be read"):
            return self._connection.execute(statement, values).fetchall()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _all(self, query: Any, values: Sequence[Any] = ()) -> list[Values]:
        with postgres.translating("the trail cannot be read"):
            return self._connection.execute(query, values, binary=True).fetchall()

    def _stream(self, query: Any, values: Sequence[Any] | Mapping[str, Any] = ()) -> Iterator[Values]:
        with (
            postgres.translating("the trail cannot be read"),
            closing(self._connection.cursor(f"trail_{next(self._number)}", binary=True)) as cursor,
        ):
            cursor.itersize = CHUNK
            cursor.execute(query, values)
            yield from cursor


class LogHashes:
    """Implements merkle.proofs.Hashes for one log."""

    def __init__(self, reader: TrailReader, log: LogRow) -> None:
        self._reader, self._log = reader, log

    def read(self, level: int, begin: int, end: int) -> list[bytes]:
        """Leaves from their rows, all else from tiles."""
        if level == 0:
            return self._reader.leaves(self._log, begin, end)
        return self._reader.tile_hashes(self._log, level, begin, end)


def to_batch(row: Values) -> BatchRow:
    """A row of the batches."""
    begin, end, first, last, first_time, last_time, root, peaks = row
    return BatchRow(begin, end, first, last, first_time, last_time, bytes(root), bytes(peaks))


def to_record(row: Values) -> Record:
    """The record that a row holds."""
    offset, kind, time_ms, key, value, headers = row[1], row[4], row[5], row[6], row[7], row[8]
    return Record(offset, kind, time_ms, as_bytes(key), as_bytes(value), as_bytes(headers))


def leaf_of_row(row: Values) -> bytes:
    """The leaf that is stored beside a record, where it is its own; else a hash that is no record's leaf."""
    stored = as_bytes(row[LEAF]) or b""
    try:
        own = leaf_of(to_record(row))
    except struct.error:
        # A number that no record has.
        own = b""
    return own if own == stored else hash_leaf(own + stored)


def as_bytes(value: Any) -> bytes | None:
    """What PostgreSQL's client gives for bytea."""
    return None if value is None else bytes(value)


@contextmanager
def opened(url: str) -> Iterator[TrailReader]:
    """A reader with one view of everything.

    Raises:
        ServiceUnavailable: PostgreSQL does not answer.
        ConfigurationError: there is no trail.
    """
    connection = postgres.connect_url(url)
    with closing(connection), postgres.translating("the trail cannot be read"):
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        require_schema(connection)
        yield TrailReader(connection)


#: Of the decisions, by the last migration.
NEWEST_COLUMN = "fallback"


def require_schema(connection: postgres.Connection) -> None:
    """Raises ConfigurationError where there is no trail, or one of before this version."""
    if connection.execute("SELECT to_regclass('trail.batches')").fetchone() == (None,):
        raise ConfigurationError("the database has no trail: `ultrathink forensics migrate` makes it")
    newest = connection.execute(
        "SELECT 1 FROM pg_attribute WHERE attrelid = 'trail.decisions'::regclass AND attname = %s", [NEWEST_COLUMN]
    )
    if newest.fetchone() is None:
        raise ConfigurationError("the trail is of an older version: `ultrathink forensics migrate` renews it")


def tables() -> tuple[str, ...]:
    """Of records."""
    return tuple(kind.name for kind in KINDS)
