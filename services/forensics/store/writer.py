"""Records into their tables by COPY, and the trees above them, in one transaction."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct

from connectors import postgres
from connectors.postgres import sql
from services.forensics.columns import Values, to_time
from services.forensics.kinds import BY_NAME, COMMON, KINDS, columns_of, row_of, types_of
from services.forensics.merkle.proofs import TreeReader, check_consistency, consistency_path
from services.forensics.merkle.tree import GrowingTree, Tile, from_bytes, to_bytes
from services.forensics.ports import Alarm, LogHead, LogName, Stored, Tail
from services.forensics.records import Record, leaf_of
from services.forensics.store.proven_end import signed_end
from services.forensics.store.reading import (
    INDEX,
    OFFSET,
    LogHashes,
    LogRow,
    TrailReader,
    leaf_of_row,
    require_schema,
)
from trading.errors import BadRecord, ConfigurationError, ServiceUnavailable

#: Whoever writes a trail holds this advisory lock of its database: a second one waits.
LOCK = 7_316_520_042
COPY = {
    kind.name: sql.SQL("COPY trail.{} ({}) FROM STDIN (FORMAT BINARY)").format(
        sql.Identifier(kind.name), sql.SQL(", ").join(map(sql.Identifier, columns_of(kind)))
    )
    for kind in KINDS
}
COPY_BATCHES = (
    "COPY trail.batches (log, from_size, to_size, first_offset, last_offset, first_event_time, last_event_time, "
    "root, peaks) FROM STDIN (FORMAT BINARY)"
)
BATCH_TYPES = ["integer", *["bigint"] * 4, "timestamptz", "timestamptz", "bytea", "bytea"]
COPY_TILES = "COPY trail.tiles (log, level, tile_index, hash) FROM STDIN (FORMAT BINARY)"
TILE_TYPES = ["integer", "smallint", "bigint", "bytea"]
ADD_LOG = (
    "INSERT INTO trail.logs (topic, topic_id, topic_partition, kind) VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING"
)
FIND_LOG = "SELECT id, kind FROM trail.logs WHERE topic_id = %s AND topic_partition = %s"
HEAD = "SELECT to_size, last_offset, peaks FROM trail.batches WHERE log = %s ORDER BY from_size DESC LIMIT 1"
SPAN = sql.SQL("SELECT {} FROM trail.{} WHERE log = %s AND record_offset BETWEEN %s AND %s")
RETIRED_LEAVES = """
SELECT record_offset, substring(leaves FROM 32 * place::int - 31 FOR 32)
FROM trail.retired, unnest(record_offsets) WITH ORDINALITY AS one (record_offset, place)
WHERE log = %(log)s AND last_offset >= %(first)s AND first_offset <= %(last)s
    AND record_offset BETWEEN %(first)s AND %(last)s
"""
#: Of every table, in this order.
COLUMNS = sql.SQL(", ").join(sql.Identifier(name) for name, _ in COMMON)
#: The same is not said twice.
ADD_ALARM = """
INSERT INTO trail.alarms (kind, log, record_offset, detail, record)
SELECT %(kind)s, %(log)s, %(offset)s, %(detail)s, %(record)s
WHERE NOT EXISTS (
    SELECT FROM trail.alarms
    WHERE kind = %(kind)s AND log IS NOT DISTINCT FROM %(log)s AND record_offset IS NOT DISTINCT FROM %(offset)s
        AND record IS NOT DISTINCT FROM %(record)s AND detail = %(detail)s
)
"""
TAIL = sql.SQL("SELECT {} FROM trail.{} WHERE log = %s AND record_offset >= %s ORDER BY record_offset, leaf_index")
TAIL_CHUNK = 5000
LOGS = "SELECT topic_id, topic_partition, topic, kind FROM trail.logs"
ADD_CHECKPOINT = (
    "INSERT INTO trail.checkpoints (number, signed_at, line) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING"
)
CHECKPOINTS_AFTER = "SELECT line FROM trail.checkpoints WHERE number > %s ORDER BY number"
LAST_CHECKPOINT = "SELECT line FROM trail.checkpoints ORDER BY number DESC LIMIT 1"


class Batch(Struct):
    """New records of one log, as they are stored."""

    head: LogHead
    from_size: int
    rows: list[Values]
    tiles: list[Tile]
    tree: GrowingTree

    @property
    def line(self) -> Values:
        """Of the batches' table."""
        times = [row[3] for row in self.rows]
        first, last = self.rows[0], self.rows[-1]
        return (
            self.head.id, self.from_size, self.tree.size, first[1], last[1], min(times), max(times),
            self.tree.root(), to_bytes(self.tree.peaks),
        )  # fmt: skip


class TrailWriter:
    """Implements Trail."""

    def __init__(self, url: str, wait_s: float = 0.0) -> None:
        """Connect, and be the only one who writes.

        Args:
            url: of the database, as the role that writes.
            wait_s: how long another one is waited for.

        Raises:
            ServiceUnavailable: PostgreSQL does not answer; another one writes.
            ConfigurationError: the schema is not there.
        """
        self._url, self._wait_s = url, wait_s
        self._heads: dict[LogName, LogHead] = {}
        self._partitions: set[tuple[str, datetime]] = set()
        self._connection = self._connect()

    def open(self, name: LogName, kind: str) -> LogHead:
        """See Trail."""
        with self._using(f"{name} cannot be put on record") as connection:
            head = self._heads[name] = read_head(connection, name, kind)
        return head

    def begins_with(self, name: LogName, size: int, root: bytes) -> bool:
        """See Trail; by the hashes that are stored, up to the tree that is."""
        head = self._heads[name]
        with self._using("the trail cannot be read") as connection:
            hashes = LogHashes(TrailReader(connection), LogRow(head.id, name, head.kind))
            try:
                path = consistency_path(TreeReader(hashes), size, head.tree.size)
            except ConfigurationError:
                # Some of it is missing.
                return False
        return check_consistency(size, root, head.tree.size, head.tree.root(), path)

    @contextmanager
    def tail(self, name: LogName, size: int, root: bytes) -> Iterator[Tail | None]:
        """See Trail. Where it begins is what the last signed record's own leaf says, which the root holds."""
        head = self._heads[name]
        with self._using("the trail cannot be read") as connection:
            begun = signed_end(TrailReader(connection), LogRow(head.id, name, head.kind), size, root)
            if begun is None:
                yield None
                return
            with closing(connection.cursor("trail_tail", binary=True)) as cursor:
                cursor.itersize = TAIL_CHUNK
                cursor.execute(TAIL.format(COLUMNS, sql.Identifier(head.kind)), (head.id, begun[1]))
                yield Tail(*begun, ((int(row[OFFSET]), int(row[INDEX]), leaf_of_row(row)) for row in cursor))

    def on_record(self) -> Mapping[LogName, str]:
        """See Trail."""
        with self._using("the trail cannot be read") as connection:
            return {LogName(row[0], row[1], row[2]): row[3] for row in connection.execute(LOGS).fetchall()}

    def store(self, records: Mapping[LogName, Sequence[Record]]) -> Stored:
        """See Trail."""
        self._connected()
        different: list[tuple[LogName, Record]] = []
        batches = []
        for name, mine in records.items():
            head = self._heads[name]
            known = [r for r in mine if r.offset < head.next_offset]
            if known:
                different += [(name, r) for r in self._different(head, known)]
            if new := mine[len(known) :]:
                batches.append(to_batch(head, new))
        self._ensure_partitions(batches)
        with self._using("records cannot be stored") as connection, connection.cursor() as cursor:
            copy_batches(cursor, batches)
        for batch in batches:
            batch.head.tree = batch.tree
            batch.head.next_offset = batch.rows[-1][1] + 1
        return Stored(sum(len(batch.rows) for batch in batches), tuple(different))

    def raise_alarm(self, alarm: Alarm) -> None:
        """See Trail."""
        head = self._heads.get(alarm.name) if alarm.name else None
        with self._using("an alarm cannot be stored") as connection:
            connection.execute(
                ADD_ALARM,
                {
                    "kind": alarm.kind, "log": head and head.id, "offset": alarm.offset, "detail": alarm.detail,
                    "record": alarm.record,
                },
            )  # fmt: skip

    def keep_checkpoint(self, number: int, signed_at_ns: int, line: bytes) -> None:
        """See Trail."""
        with self._using("a checkpoint cannot be stored") as connection:
            connection.execute(ADD_CHECKPOINT, (number, to_time(signed_at_ns), line))

    def last_checkpoint(self) -> bytes | None:
        """See Trail."""
        with self._using("checkpoints cannot be read") as connection:
            found = connection.execute(LAST_CHECKPOINT).fetchone()
        return None if found is None else bytes(found[0])

    def checkpoints_after(self, number: int) -> Sequence[bytes]:
        """See Trail."""
        with self._using("checkpoints cannot be read") as connection:
            found = connection.execute(CHECKPOINTS_AFTER, (number,)).fetchall()
        return [bytes(row[0]) for row in found]

    def close(self) -> None:
        """Close the connection, and with it the right to write."""
        self._connection.close()

    @contextmanager
    def _using(self, what: str) -> Iterator[postgres.Connection]:
        """A transaction on a connection that works."""
        connection = self._connected()
        try:
            with postgres.translating(what), connection.transaction():
                yield connection
        except BadRecord as error:
            # No value of ours is refused: somebody else has stored at the same place, or changed the schema; a
            # partition may have been retired.
            connection.close()
            self._partitions.clear()
            raise ServiceUnavailable(str(error)) from error

    def _connected(self) -> postgres.Connection:
        """The connection; a new one where the last is gone, with what others may have stored meanwhile."""
        if self._connection.closed or self._connection.broken:
            self._connection = self._connect()
            with postgres.translating("the trail cannot be read"), self._connection.transaction():
                moved = [name for name, head in self._heads.items() if self._moved(head)]
            if moved:
                # What was prepared does not follow from what is stored.
                raise ServiceUnavailable(f"the trail of {moved[0]} is not where it was left: it is opened anew")
        return self._connection

    def _moved(self, head: LogHead) -> bool:
        """Read a log's head again; whether it is another."""
        before = head.id, head.tree.size, head.tree.peaks
        now = read_head(self._connection, head.name, head.kind)
        head.id, head.tree, head.next_offset = now.id, now.tree, now.next_offset
        return before != (now.id, now.tree.size, now.tree.peaks)

    def _connect(self) -> postgres.Connection:
        connection = postgres.connect_url(self._url)
        deadline = time.monotonic() + self._wait_s
        with postgres.translating("the trail cannot be opened"):
            connection.autocommit = True
            try:
                require_schema(connection)
            except ConfigurationError:
                connection.close()
                raise
            while connection.execute("SELECT pg_try_advisory_lock(%s)", (LOCK,)).fetchone() != (True,):
                if time.monotonic() > deadline:
                    connection.close()
                    raise ServiceUnavailable("another forensics writes this trail: it must end first")
                time.sleep(0.2)
        return connection

    def _different(self, head: LogHead, records: Sequence[Record]) -> list[Record]:
        """Those that are not what is stored at their offsets."""
        first, last = records[0].offset, records[-1].offset
        query = SPAN.format(COLUMNS, sql.Identifier(head.kind))
        with self._using("the trail cannot be read") as connection:
            rows = connection.execute(query, (head.id, first, last)).fetchall()
            stored = {int(row[OFFSET]): leaf_of_row(row) for row in rows}
            if any(r.offset not in stored for r in records):
                gone = connection.execute(RETIRED_LEAVES, {"log": head.id, "first": first, "last": last}).fetchall()
                stored |= {int(offset): bytes(leaf) for offset, leaf in gone}
        return [r for r in records if stored.get(r.offset) != leaf_of(r)]

    def _ensure_partitions(self, batches: Sequence[Batch]) -> None:
        """Before the transaction: what is made stays made."""
        wanted = {(b.head.kind, month(row[3])) for b in batches for row in b.rows} - self._partitions
        if wanted:
            with self._using("a partition cannot be made") as connection:
                for kind, moment in sorted(wanted):
                    connection.execute("SELECT trail.ensure_partition(%s, %s)", (kind, moment))
            self._partitions |= wanted


def read_head(connection: postgres.Connection, name: LogName, kind: str) -> LogHead:
    """How far a log is stored; it is entered where it is not known. Raises ConfigurationError for a damaged one."""
    connection.execute(ADD_LOG, (name.topic, name.topic_id, name.partition, kind))
    found = connection.execute(FIND_LOG, (name.topic_id, name.partition)).fetchone()
    if found is None or found[1] != kind:
        raise ConfigurationError(f"{name} is on record as {found and found[1]}, and not as {kind}")
    head = LogHead(int(found[0]), name, kind, GrowingTree(), 0)
    last = connection.execute(HEAD, (head.id,)).fetchone()
    if last is not None:
        try:
            head.tree = GrowingTree(int(last[0]), from_bytes(bytes(last[2])))
        except ValueError as error:
            raise ConfigurationError(
                f"the tree of {name} is damaged ({error}): `ultrathink forensics verify` tells where"
            ) from None
        head.next_offset = int(last[1]) + 1
    return head


def to_batch(head: LogHead, records: Sequence[Record]) -> Batch:
    """The rows of records that follow a log's last, and what they make of its tree."""
    kind, tree = BY_NAME[head.kind], head.tree.copy()
    rows, tiles = [], []
    for record in records:
        leaf = leaf_of(record)
        rows.append(row_of(kind, head.id, tree.size, record, leaf))
        tiles += tree.append(leaf)
    return Batch(head, head.tree.size, rows, tiles, tree)


def month(moment: datetime) -> datetime:
    """The beginning of its month, which a partition holds on plain PostgreSQL."""
    return moment.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def copy_batches(cursor: Any, batches: Sequence[Batch]) -> None:
    """All of them into their tables."""
    for kind in {batch.head.kind: None for batch in batches}:
        rows = [row for batch in batches if batch.head.kind == kind for row in batch.rows]
        copy_rows(cursor, COPY[kind], types_of(BY_NAME[kind]), rows)
    copy_rows(cursor, COPY_BATCHES, BATCH_TYPES, [batch.line for batch in batches])
    copy_rows(
        cursor, COPY_TILES, TILE_TYPES, [(b.head.id, t.level, t.index, t.hash) for b in batches for t in b.tiles]
    )


def copy_rows(cursor: Any, statement: Any, types: list[str], rows: Sequence[Values]) -> None:
    """One COPY."""
    if not rows:
        return
    with cursor.copy(statement) as copy:
        copy.set_types(types)
        for row in rows:
            copy.write_row(row)
