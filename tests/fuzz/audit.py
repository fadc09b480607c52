"""`python -m tests.fuzz.audit [--tamperings N]`: a trail is changed at random in every way we know; each must be found.

A real PostgreSQL, changed by its owner within a transaction that is rolled back after each look. Several changes are made at
once, far from one another, and each must be found at its own place: a record, or the batch or subtree of at most
256 that holds it.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

from msgspec import Struct

from connectors import postgres
from services.forensics.checkpoints import make, read, sign
from services.forensics.kinds import BY_NAME, columns_of, row_of, types_of
from services.forensics.merkle.tree import TILE_LEAVES, GrowingTree, to_bytes
from services.forensics.records import leaf_of
from services.forensics.store.reading import TrailReader, to_record
from services.forensics.verification import verify
from tests.databases import migrated, running_postgres
from tests.trails import KEY, KEYS, TOPICS, build

SIZES = {
    "decisions": 7_000, "orders": 1_200, "fills": 1_200, "dead_letters": 400, "commands": 200, "releases": 100,
    "experiments": 60, "starts": 60,
}  # fmt: skip
TAMPERINGS, AT_ONCE = 10_000, 8
#: A change is found within as many records at most: a subtree, or a batch.
NEAR = TILE_LEAVES


class Change(Struct):
    """What was done: where it must be found. `number` is of a checkpoint; `spread` leaves only its beginning certain."""

    what: str
    kind: str = ""
    first: int = -1
    last: int = -1
    number: int = -1
    spread: bool = False


class Tamperer:
    """Changes a trail on the connection of its owner."""

    def __init__(self, connection, random_):
        self.connection, self.random = connection, random_
        self.logs = {row[0]: row[1] for row in connection.execute("SELECT kind, id FROM trail.logs").fetchall()}
        self.sizes = SIZES
        self.lines: list[bytes] = []

    def one(self, query, *values):
        return self.connection.execute(query, values, binary=True).fetchone()

    def run(self, query, *values):
        assert self.connection.execute(query, values).rowcount > 0, query

    def row(self, kind, index):
        return self.one(
            f"SELECT {', '.join(columns_of(BY_NAME[kind]))} FROM trail.{kind} WHERE leaf_index = %s ORDER BY record_offset LIMIT 1",
            index,
        )  # fmt: skip

    def pick(self, used):
        """A record far from those that were changed already."""
        while True:
            kind = self.random.choices(list(SIZES), weights=[8, 3, 3, 2, 1, 1, 1, 1])[0]
            index = self.random.randrange(SIZES[kind])
            if all(kind != k or abs(index - i) > 3 * NEAR for k, i in used) and (
                SIZES[kind] > 1000 or all(k != kind for k, _ in used)
            ):
                used.append((kind, index))
                return kind, index

    # Of one record.

    def altered_column(self, kind, index):
        name, declared = self.random.choice(
            [(n, t) for n, t in zip(columns_of(BY_NAME[kind]), types_of(BY_NAME[kind]), strict=True) if n != "log"]
        )
        old = dict(zip(columns_of(BY_NAME[kind]), self.row(kind, index), strict=True))[name]
        new = self.another(declared, old)
        if name == "event_time":
            self.connection.execute("SELECT trail.ensure_partition(%s, %s)", (kind, new))
        self.run(f"UPDATE trail.{kind} SET {name} = %s WHERE leaf_index = %s", new, index)
        # Elsewhere in the log: it is missed here, and too many there.
        return Change(f"altered {name}", kind, index, index + (1000 if name == "record_offset" else 0))

    def another(self, declared, old):
        """Another value of a type, near the old one as often as not."""
        from datetime import timedelta

        if declared == "bytea":
            if old is None or self.random.random() < 0.1:
                return b"other" if old is None else None if len(old) != 32 else bytes(32)
            content = bytearray(old or b"x")
            if not old:
                return b"x"
            content[self.random.randrange(len(content))] ^= 1 << self.random.randrange(8)
            return bytes(content)
        if declared == "text":
            return (
                "other"
                if not old
                else self.random.choice([old + "x", old[:-1], old.swapcase() if old.swapcase() != old else "y"])
            )
        if declared == "text[]":
            return ["drawdown"] if old != ["drawdown"] else []
        if declared == "timestamptz":
            from services.forensics.columns import EPOCH

            return (old or EPOCH) + timedelta(microseconds=self.random.choice([1, -1, 3_600_000_000, 10**15]))
        if declared == "double precision":
            return 1.0 if old is None else self.random.choice([old + 1.0, -old - 1.0, None])
        if declared == "smallint":
            return 3 - (old or 0)
        return (old or 0) + self.random.choice([1, 1000])

    def deleted(self, kind, index):
        self.run(f"DELETE FROM trail.{kind} WHERE leaf_index = %s", index)
        return Change("deleted", kind, index, index)

    def deleted_span(self, kind, index):
        last = min(index + self.random.randrange(1, 40), SIZES[kind] - 1)
        self.run(f"DELETE FROM trail.{kind} WHERE leaf_index BETWEEN %s AND %s", index, last)
        return Change("deleted span", kind, index, last)

    def insert(self, kind, row):
        names = columns_of(BY_NAME[kind])
        self.connection.execute("SELECT trail.ensure_partition(%s, %s)", (kind, row[3]))
        self.run(f"INSERT INTO trail.{kind} ({', '.join(names)}) VALUES ({', '.join(['%s'] * len(names))})", *row)

    def inserted_twin(self, kind, index):
        """The same offset once more, at another time: the key of a hypertable allows it."""
        from datetime import timedelta

        row = list(self.row(kind, index))
        row[3] += timedelta(microseconds=1)
        self.insert(kind, row)
        return Change("inserted twin", kind, index, index)

    def inserted_other(self, kind, index):
        """A made-up record whose own columns are right, at an offset that was free or beyond the end."""
        row = self.row(kind, index)
        taken = {r[0] for r in self.connection.execute(f"SELECT record_offset FROM trail.{kind}").fetchall()}
        free = next(o for o in range(row[1], row[1] + 10**6) if o not in taken)
        record = to_record(row)
        other = type(record)(
            free, record.timestamp_type, record.timestamp_ms, b"forged", record.value, record.headers
        )
        self.insert(kind, row_of(BY_NAME[kind], row[0], index, other, leaf_of(other)))
        return Change("inserted", kind, index, index + free - row[1])

    def rewritten(self, kind, index):
        """Another record with a leaf and columns that fit it."""
        row = self.row(kind, index)
        record = to_record(row)
        other = type(record)(
            record.offset, record.timestamp_type, record.timestamp_ms, b"forged", record.value, record.headers
        )
        made = row_of(BY_NAME[kind], row[0], index, other, leaf_of(other))
        self.run(f"DELETE FROM trail.{kind} WHERE leaf_index = %s", index)
        self.insert(kind, made)
        return Change("rewritten", kind, index, index)

    def swapped(self, kind, index):
        """Two neighbours in the other's place."""
        index = min(index, SIZES[kind] - 2)
        a, b = self.row(kind, index), self.row(kind, index + 1)
        if a[6:9] == b[6:9]:
            return self.deleted(kind, index)
        for row, other in ((a, b), (b, a)):
            self.run(
                f"UPDATE trail.{kind} SET key = %s, value = %s, headers = %s WHERE leaf_index = %s",
                *other[6:9],
                row[2],
            )
        return Change("swapped", kind, index, index + 1)

    # Of what stands above records.

    def batch_of(self, kind, index):
        return self.one(
            "SELECT log, from_size, to_size, first_offset, last_offset, first_event_time, last_event_time, root, peaks "
            "FROM trail.batches WHERE log = %s AND from_size <= %s AND to_size > %s",
            self.logs[kind], index, index,
        )  # fmt: skip

    def altered_batch(self, kind, index):
        names = ("to_size", "first_offset", "last_offset", "first_event_time", "last_event_time", "root", "peaks")
        types = ("bigint", "bigint", "bigint", "timestamptz", "timestamptz", "bytea", "bytea")
        row = self.batch_of(kind, index)
        at = self.random.randrange(len(names))
        self.run(
            f"UPDATE trail.batches SET {names[at]} = %s WHERE log = %s AND from_size = %s",
            self.another(types[at], row[2 + at]) or b"", row[0], row[1],
        )  # fmt: skip
        # One that says that it reaches further is found where nothing lies.
        return Change(f"altered batch {names[at]}", kind, row[1], row[2] - 1 + (1000 if at == 0 else 0))

    def deleted_batch(self, kind, index):
        row = self.batch_of(kind, index)
        self.run("DELETE FROM trail.batches WHERE log = %s AND from_size = %s", row[0], row[1])
        return Change("deleted batch", kind, row[1], row[2] - 1)

    def inserted_batch(self, kind, index):
        row = list(self.batch_of(kind, index))
        if row[2] - row[1] < 2:
            return self.deleted_batch(kind, index)
        first, last = row[1], row[2] - 1
        row[1] += 1
        self.run(f"INSERT INTO trail.batches VALUES ({', '.join(['%s'] * 9)})", *row)
        return Change("inserted batch", kind, first, last)

    def changed_tile(self, kind, index):
        level, log = 8, self.logs[kind]
        place = index >> level
        if (place + 1) << level > SIZES[kind]:
            return self.deleted(kind, index)
        how = self.random.choice(["flip", "delete"])
        if how == "delete":
            self.run("DELETE FROM trail.tiles WHERE log = %s AND level = %s AND tile_index = %s", log, level, place)
        else:
            content = bytearray(
                self.one(
                    "SELECT hash FROM trail.tiles WHERE log = %s AND level = 8 AND tile_index = %s", log, place
                )[0]
            )
            content[self.random.randrange(32)] ^= 1 << self.random.randrange(8)
            self.run(
                "UPDATE trail.tiles SET hash = %s WHERE log = %s AND level = 8 AND tile_index = %s",
                bytes(content),
                log,
                place,
            )
        return Change(f"tile {how}", kind, place << level, (place << level) + TILE_LEAVES - 1)

    # Of everything from a place on; alone in a pass.

    def truncated(self, kind, index):
        """The end, with all that stands above it: as if it had never been."""
        row, log = self.batch_of(kind, index), self.logs[kind]
        self.run(f"DELETE FROM trail.{kind} WHERE leaf_index >= %s", row[1])
        self.run("DELETE FROM trail.batches WHERE log = %s AND from_size >= %s", log, row[1])
        self.connection.execute(
            "DELETE FROM trail.tiles WHERE log = %s AND (tile_index + 1) << level > %s", (log, row[1])
        )
        return Change("truncated", kind, row[1], SIZES[kind] - 1)

    def forked(self, kind, index):
        """Another record, and everything above and after it computed again."""
        return self.recomputed(kind, index, self.rewritten(kind, index), "forked")

    def removed_without_trace(self, kind, index):
        """A record less, and all after it computed again."""
        if SIZES[kind] < 2:
            return self.deleted(kind, index)
        change = self.deleted(kind, index)
        self.connection.execute(
            f"UPDATE trail.{kind} SET leaf_index = leaf_index - 1 WHERE leaf_index > %s", (index,)
        )
        return self.recomputed(kind, index, change, "removed without trace")

    def recomputed(self, kind, index, change, what):
        log = self.logs[kind]
        rows = self.connection.execute(
            f"SELECT {', '.join(columns_of(BY_NAME[kind]))} FROM trail.{kind} ORDER BY record_offset", binary=True
        ).fetchall()
        batches = self.connection.execute(
            "SELECT log, from_size, to_size, first_offset, last_offset FROM trail.batches WHERE log = %s ORDER BY from_size",
            (log,),
        ).fetchall()
        self.connection.execute("DELETE FROM trail.batches WHERE log = %s", (log,))
        self.connection.execute("DELETE FROM trail.tiles WHERE log = %s", (log,))
        tree, place = GrowingTree(), 0
        for _, _, to_size, _, last_offset in batches:
            mine = [r for r in rows[place : place + to_size] if r[1] <= last_offset]
            if not mine:
                continue
            begin = tree.size
            for row in mine:
                for tile in tree.append(leaf_of(to_record(row))):
                    self.run(
                        "INSERT INTO trail.tiles VALUES (%s, %s, %s, %s)", log, tile.level, tile.index, tile.hash
                    )
            place += len(mine)
            times = [row[3] for row in mine]
            self.run(
                f"INSERT INTO trail.batches VALUES ({', '.join(['%s'] * 9)})", log, begin, tree.size, mine[0][1], mine[-1][1],
                min(times), max(times), tree.root(), to_bytes(tree.peaks),
            )  # fmt: skip
        return Change(what, kind, change.first, change.last, spread=True)

    def altered_log(self, kind, _index):
        name = self.random.choice(["topic", "topic_id", "topic_partition", "kind"])
        value = {"topic_partition": 7, "kind": "orders" if kind != "orders" else "fills"}.get(name, "other")
        self.run(f"UPDATE trail.logs SET {name} = %s WHERE id = %s", value, self.logs[kind])
        return Change(f"altered log {name}", kind, 0, SIZES[kind] - 1, spread=True)

    # Of checkpoints.

    def checkpoint(self, _kind, _index):
        number = self.random.randrange(1, len(self.lines))
        how = self.random.choice(
            ["flip", "delete", "swap", "cut", "forge", "stale", "copy flip", "copy delete", "copy time"]
        )
        if how == "flip":
            content = bytearray(self.lines[number])
            content[self.random.randrange(len(content))] ^= 1 << self.random.randrange(8)
            self.lines[number] = bytes(content)
        elif how == "delete":
            del self.lines[number]
        elif how == "swap":
            self.lines[number - 1], self.lines[number] = self.lines[number], self.lines[number - 1]
        elif how == "cut":
            del self.lines[number:]
        elif how == "forge":
            from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

            self.lines[number] = sign(read(self.lines[number], KEYS), Ed25519PrivateKey.generate())
        elif how == "stale":
            # Signed by the right key, at another time: somebody has both key and folder, but not what follows.
            known = read(self.lines[number - 1], KEYS)
            self.lines[number] = sign(make(number, known.signed_at_ns + 1, known.previous, known.trees), KEY)
        elif how == "copy flip":
            content = bytearray(self.one("SELECT line FROM trail.checkpoints WHERE number = %s", number)[0])
            content[self.random.randrange(len(content))] ^= 1 << self.random.randrange(8)
            self.run("UPDATE trail.checkpoints SET line = %s WHERE number = %s", bytes(content), number)
        elif how == "copy delete":
            number = self.random.randrange(1, len(self.lines) - 6)
            self.run("DELETE FROM trail.checkpoints WHERE number = %s", number)
        else:
            self.run(
                "UPDATE trail.checkpoints SET signed_at = signed_at + interval '1 hour' WHERE number = %s", number
            )
        return Change(f"checkpoint {how}", number=number)


RECORDS = ["altered_column"] * 6 + ["deleted", "deleted_span", "inserted_twin", "inserted_other", "rewritten", "swapped"] + [
    "altered_batch", "deleted_batch", "inserted_batch", "changed_tile",
]  # fmt: skip
ALONE = ["truncated", "forked", "removed_without_trace", "altered_log", "checkpoint"]


def located(change, findings):
    """Whether one of them names the place."""
    if change.number >= 0:
        return any(f.number >= 0 and abs(f.number - change.number) <= 1 for f in findings)
    name = TOPICS[change.kind]
    for f in findings:
        if (
            f.log is not None
            and (f.log.partition, f.log.topic_id) != (name.partition, name.topic_id)
            and not change.spread
        ):
            continue
        if f.last_index < change.first or f.first_index > change.last:
            continue
        if change.spread or f.last_index - f.first_index < max(2 * NEAR, change.last - change.first + 1):
            return True
    return False


def explained(finding, changes):
    """Whether a finding is about something that was changed, or beside it."""
    if any(c.spread for c in changes):
        return True
    if finding.number >= 0:
        return any(c.number >= 0 for c in changes)
    return any(
        c.kind
        and finding.log == TOPICS[c.kind]
        and finding.first_index <= c.last + 2 * NEAR
        and finding.last_index >= c.first - 2 * NEAR
        for c in changes
    ) or (finding.log is None and bool(changes))


def audit(settings, files, tamperings, seed, progress=lambda _: None):
    """Tamper so many times; returns what was done how often, and what was not found or was found for no reason."""
    random_, done, wrong = random.Random(seed), Counter(), []
    untouched = list(files.lines())
    with closing(postgres.connect_url(settings.postgres_url("ultrathink"))) as connection:
        whole = verify(TrailReader(connection), untouched, KEYS)
        assert whole.findings == [], whole.findings
        connection.rollback()
        while sum(done.values()) < tamperings:
            tamperer, used, changes = Tamperer(connection, random_), [], []
            tamperer.lines = list(untouched)
            if random_.random() < 0.25:
                names = [random_.choice(ALONE)]
            else:
                names = random_.choices(RECORDS, k=random_.randint(1, AT_ONCE))
            for name in names:
                place = tamperer.pick(used)
                try:
                    with connection.transaction():
                        changes.append(getattr(tamperer, name)(*place))
                except postgres.Error as error:
                    # The database itself refuses two rows of one key.
                    if error.sqlstate != "23505":
                        raise
            found = verify(TrailReader(connection), tamperer.lines, KEYS).findings
            connection.rollback()
            for change in changes:
                done[change.what] += 1
                if not located(change, found):
                    wrong.append((change, found[:4]))
            wrong += [("for no reason", f, changes) for f in found if not explained(f, changes)]
            progress(sum(done.values()))
    return done, wrong


def main() -> int:
    """Exit code 1 where a change was not found, or not where it was."""
    parser = argparse.ArgumentParser("python -m tests.fuzz.audit", description=__doc__)
    parser.add_argument("--tamperings", type=int, default=TAMPERINGS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="Print JSON on stdout.")
    given = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="ultrathink-audit-"))
    home.chmod(0o755)
    began = time.monotonic()

    def progress(count):
        if sys.stderr.isatty():
            told = f"{count:,} of {given.tamperings:,}, {time.monotonic() - began:.0f} s"
            print(f"\r{told}", end="", file=sys.stderr)

    try:
        with running_postgres(home) as settings:
            migrated(settings)
            files = build(settings, home / "checkpoints", SIZES)
            done, wrong = audit(settings, files, given.tamperings, given.seed, progress)
    finally:
        shutil.rmtree(home, ignore_errors=True)
    seconds, changes, records = time.monotonic() - began, sum(done.values()), sum(SIZES.values())
    if given.json:
        told = {"changes": changes, "records": records, "not_located": len(wrong), "seconds": round(seconds, 1)}
        print(
            json.dumps({**told, "by_kind": dict(sorted(done.items())), "examples": [repr(w) for w in wrong[:20]]})
        )
        return int(bool(wrong))
    for what, times in sorted(done.items()):
        print(f"{times:7,}  {what}")
    print(
        f"{changes:,} changes of a trail of {records:,} records in {seconds:.0f} s; {len(wrong)} not found or not located"
    )
    for one in wrong[:20]:
        print(json.dumps(repr(one)))
    return int(bool(wrong))


if __name__ == "__main__":
    raise SystemExit(main())
