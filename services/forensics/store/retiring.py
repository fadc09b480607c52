"""What is old enough goes, a part of a table at a time, and leaves the hashes of its leaves: trees stay whole.

A part goes where its newest event, and the checkpoint that first covered its last record, are both older than what
is kept: a replay of 1990 that was recorded today stays, and so does an event of today that was told late.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from datetime import datetime
from typing import Any, cast

from msgspec import Struct

from connectors import postgres
from connectors.postgres import sql
from services.forensics.checkpoints import Checkpoint
from trading.errors import BadRecord, ServiceUnavailable

#: So many leaves are one row of what stays.
RUN = 4096
PARTS = "SELECT kind, part FROM trail.parts_before(%s)"
LOGS = "SELECT id, topic_id, topic_partition FROM trail.logs"
TOO_YOUNG = """
SELECT EXISTS (
    SELECT FROM {part} AS p
    LEFT JOIN unnest(%(logs)s::int[], %(sizes)s::bigint[]) AS old (log, size) ON old.log = p.log
    WHERE p.leaf_index >= coalesce(old.size, 0)
)
"""
KEEP_LEAVES = """
INSERT INTO trail.retired (log, first_index, record_offsets, leaves)
SELECT log, min(leaf_index), array_agg(record_offset ORDER BY leaf_index), string_agg(leaf, '' ORDER BY leaf_index)
FROM (
    SELECT log, record_offset, leaf_index, leaf,
        leaf_index - row_number() OVER (PARTITION BY log ORDER BY leaf_index) AS run
    FROM {part}
) AS numbered
GROUP BY log, run, leaf_index / %(run)s
"""


class RetiredPart(Struct, frozen=True):
    """A part of a table that is gone: which, and how many records it held."""

    kind: str
    part: str
    records: int


def retire(
    owner_url: str,
    signed: Checkpoint,
    cutoff: datetime,
    told: Callable[[RetiredPart], None],
    *,
    try_only: bool = False,
) -> list[RetiredPart]:
    """Retire every part that is old enough, each by itself.

    Args:
        owner_url: of the database, as the schema's owner.
        signed: the newest checkpoint that is older than `cutoff`: what it covers may go.
        cutoff: no younger event goes.
        told: of each part.
        try_only: nothing goes; what would is returned.

    Raises:
        BadRecord: a part holds a record twice.
        ServiceUnavailable: PostgreSQL does not answer, or somebody reads a part for so long that it must be tried
            again.
    """
    done = []
    with closing(postgres.connect_url(owner_url)) as connection, postgres.translating("nothing can be retired"):
        connection.autocommit = True
        sizes = {(h.topic_id, h.partition): h.size for h in signed.trees}
        known = connection.execute(LOGS).fetchall()
        old = {int(log): sizes.get((topic_id, partition), 0) for log, topic_id, partition in known}
        for kind, part in connection.execute(PARTS, (cutoff,)).fetchall():
            count = retire_part(connection, kind, part, old, try_only=try_only)
            if count is not None:
                done.append(RetiredPart(kind, part, count))
                told(done[-1])
    return done


def retire_part(
    connection: postgres.Connection, kind: str, part: str, old: Mapping[int, int], *, try_only: bool
) -> int | None:
    """One part, whole or not at all; how many records it held, None where it stays."""
    # Named by the database itself, quoted.
    named = sql.SQL(cast("Any", part))

    def run(statement: str, **values: Any) -> Any:
        return connection.execute(sql.SQL(cast("Any", statement)).format(part=named), values)

    try:
        with connection.transaction():
            connection.execute("SET LOCAL lock_timeout = '2s'")
            if not try_only:
                # Nothing comes in between what is kept of it and its end; who reads goes on.
                run("LOCK TABLE {part} IN SHARE ROW EXCLUSIVE MODE")
            young = run(TOO_YOUNG, logs=list(old), sizes=list(old.values())).fetchone()
            if young != (False,):
                return None
            count, distinct = run("SELECT count(*), count(DISTINCT (log, leaf_index)) FROM {part}").fetchone()
            if count != distinct:
                raise BadRecord(
                    f"{part} holds a record twice: `ultrathink forensics verify` tells more, and it is not retired"
                )
            if not try_only:
                run(KEEP_LEAVES, run=RUN)
                connection.execute("SELECT trail.drop_part(%s, %s)", (kind, part))
            return int(count)
    except postgres.Error as error:
        raise ServiceUnavailable(f"{part} is in use, or cannot be retired: {str(error).strip()}") from error
