"""What is old enough goes, a part of a table at a time, and leaves the hashes of its leaves: trees stay whole.

A part goes where its newest event, and the checkpoint that first covered its last record, are both older than what
is kept: a replay of 1990 that was recorded today stays, and so does an event of today that was told late.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import closing
from datetime import datetime
from typing import Any, cast

from msgspec import Struct

from connectors import postgres
from connectors.postgres import sql
from services.forensics.checkpoints import Checkpoint
from services.forensics.store.reading import RUN
from trading.errors import BadRecord, ServiceUnavailable, UltraThinkError

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
INSERT INTO trail.retired (log, first_index, first_offset, last_offset, record_offsets, leaves)
SELECT log, min(leaf_index), min(record_offset), max(record_offset), array_agg(record_offset ORDER BY leaf_index),
    string_agg(leaf, '' ORDER BY leaf_index)
FROM (
    SELECT log, record_offset, leaf_index, leaf,
        leaf_index - row_number() OVER (PARTITION BY log ORDER BY leaf_index) AS run
    FROM {part}
) AS numbered
GROUP BY log, run, leaf_index / %(run)s
"""
#: A part's end waits so long for whoever reads its table, so often, and so long in between: others wait behind it.
DROP_WAIT, DROP_TRIES, DROP_PAUSE_S = "200ms", 15, 2.0


class Patience(Struct, frozen=True):
    """How often whoever reads a table is waited for, and how long in between."""

    tries: int = DROP_TRIES
    pause_s: float = DROP_PAUSE_S


PATIENT = Patience()

#: SQLSTATEs of what passes by itself: locks, deadlocks, connections, a server that ends.
LOCKED = "55P03"
PASSING = ("55", "40", "08", "57", "53")


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
    patience: Patience = PATIENT,
) -> list[RetiredPart]:
    """Retire every part that is old enough, each by itself; one that cannot be keeps no other from it.

    Args:
        owner_url: of the database, as the schema's owner.
        signed: the newest checkpoint that is older than `cutoff`: what it covers may go.
        cutoff: no younger event goes.
        told: of each part.
        try_only: nothing goes; what would is returned.
        patience: with whoever reads a table.

    Raises:
        BadRecord: a part is damaged; all others that are old enough have gone.
        ServiceUnavailable: PostgreSQL does not answer, or somebody reads a part for so long that it must be tried
            again.
    """
    done: list[RetiredPart] = []
    problems: list[UltraThinkError] = []
    with closing(postgres.connect_url(owner_url)) as connection, postgres.translating("nothing can be retired"):
        connection.autocommit = True
        sizes = {(h.topic_id, h.partition): h.size for h in signed.trees}
        known = connection.execute(LOGS).fetchall()
        old = {int(log): sizes.get((topic_id, partition), 0) for log, topic_id, partition in known}
        for kind, part in connection.execute(PARTS, (cutoff,)).fetchall():
            try:
                count = retire_part(connection, (kind, part), old, None if try_only else patience)
            except (BadRecord, ServiceUnavailable) as error:
                problems.append(error)
                continue
            if count is not None:
                done.append(RetiredPart(kind, part, count))
                told(done[-1])
    if problems:
        worst = next((p for p in problems if isinstance(p, BadRecord)), problems[0])
        raise type(worst)("; ".join(map(str, problems)))
    return done


def retire_part(
    connection: postgres.Connection, named: tuple[str, str], old: Mapping[int, int], patience: Patience | None
) -> int | None:
    """One part, whole or not at all; how many records it held, None where it stays, as without patience it does."""
    kind, part = named
    # As the database itself names it, quoted.
    place = sql.SQL(cast("Any", part))

    def run(statement: str, **values: Any) -> Any:
        return connection.execute(sql.SQL(cast("Any", statement)).format(part=place), values)

    try:
        with connection.transaction():
            connection.execute("SET LOCAL lock_timeout = '2s'")
            if patience is not None:
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
            if patience is not None:
                run(KEEP_LEAVES, run=RUN)
                drop(connection, kind, part, patience)
            return int(count)
    except postgres.Error as error:
        said = f"{part} cannot be retired: {str(error).strip().splitlines()[0]}"
        if (error.sqlstate or "08")[:2] in PASSING:
            raise ServiceUnavailable(f"{said} (it is in use, and tried again)") from error
        raise BadRecord(said) from error


def drop(connection: postgres.Connection, kind: str, part: str, patience: Patience) -> None:
    """End a part: whoever reads its table is waited for in short turns, so that others wait for no long one."""
    connection.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(sql.Literal(DROP_WAIT)))
    for number in range(1, patience.tries + 1):
        try:
            with connection.transaction():
                connection.execute("SELECT trail.drop_part(%s, %s)", (kind, part))
        except postgres.Error as error:
            if error.sqlstate != LOCKED or number == patience.tries:
                raise
            time.sleep(patience.pause_s)
        else:
            return
