"""What is old enough goes, and nothing younger; what is left is verified and proven as before."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from itertools import product
from typing import NamedTuple

import pytest
from msgspec import structs
from pydantic import ValidationError

from connectors import postgres
from services.forensics.bootstrap import MIGRATIONS
from services.forensics.comparing import Compared, compare_tail
from services.forensics.ports import LogHead
from services.forensics.proving import check, prove_consistency, prove_record, to_file
from services.forensics.records import Record
from services.forensics.replaying import Span, replay_span
from services.forensics.retention import retire_due
from services.forensics.settings import SEVEN_YEARS, ForensicsSettings
from services.forensics.store.reading import INDEX, TrailReader, opened, to_record
from services.forensics.store.retiring import Patience
from services.forensics.store.writer import TrailWriter, to_batch
from services.forensics.verification import verify
from tests.databases import fresh_database, migrated, running_postgres
from tests.trails import KEYS, TOPICS, build, records
from trading.errors import BadRecord, ConfigurationError, ServiceUnavailable

HOUR_NS = 3_600_000_000_000
SIZES = {"decisions": 6_000, "orders": 4_500, "fills": 100, "commands": 200}
#: The trail begins on the 29th of November 2025, and its decisions end on the 2nd of December.
SEVEN_YEARS_LATER = int(datetime(2032, 12, 5, tzinfo=UTC).timestamp() * 1e9)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    home = tmp_path_factory.mktemp("retention")
    home.chmod(0o755)
    with running_postgres(home) as settings:
        yield settings


@pytest.fixture
def aged(server, tmp_path):
    """A trail of two months, signed while it was stored: its settings and checkpoints."""
    with fresh_database(server) as settings:
        migrated(settings)
        yield settings, build(settings, tmp_path / "checkpoints", SIZES, step_ns=HOUR_NS, then_ns=SEVEN_YEARS_LATER)


def due(aged, now_ns=SEVEN_YEARS_LATER, **more):
    settings, files = aged
    return retire_due(settings.postgres_url("ultrathink"), files, KEYS, SEVEN_YEARS, now_ns=now_ns, **more)


def findings(aged, now_ns=SEVEN_YEARS_LATER):
    settings, files = aged
    with opened(settings.postgres_url("reader", "ultrathink")) as reader:
        return verify(reader, files.lines(), KEYS, now_ns=now_ns).findings


def left(aged, kind):
    settings, _ = aged
    with postgres.connect_url(settings.postgres_url("reader", "ultrathink")) as connection:
        return connection.execute(f"SELECT count(*), min(leaf_index) FROM trail.{kind}").fetchone()


def run_as_owner(aged, statement):
    with postgres.connect_url(aged[0].postgres_url("ultrathink")) as connection:
        return connection.execute(statement).rowcount


def test_nothing_younger_than_seven_years_goes(aged):
    assert due(aged, now_ns=SEVEN_YEARS_LATER - 40 * 24 * HOUR_NS) == []
    assert left(aged, "decisions") == (SIZES["decisions"], 0)
    with pytest.raises(ValidationError, match="keep_days"):
        ForensicsSettings(keep_days=SEVEN_YEARS - 1)


def test_what_was_recorded_late_stays_until_its_own_time(server, tmp_path):
    # Events of 2025 that were recorded, and signed, a year later.
    a_year_later, then = SEVEN_YEARS_LATER - 6 * 365 * 24 * HOUR_NS, SEVEN_YEARS_LATER + 2 * 365 * 24 * HOUR_NS
    with fresh_database(server) as settings:
        migrated(settings)
        made = build(settings, tmp_path / "late", {"decisions": 500}, clock_ns=a_year_later, then_ns=then)
        late = settings, made
        assert due(late) == []
        assert due(late, now_ns=then)[0].records == 500
        assert left(late, "decisions") == (0, None)


def test_the_old_month_goes_and_the_trail_is_verified_and_proven_as_before(aged):
    would = due(aged, try_only=True)
    assert left(aged, "decisions") == (SIZES["decisions"], 0)
    gone = due(aged)
    assert gone == would
    assert {one.part for one in gone} >= {"trail.decisions_y2025m11", "trail.orders_y2025m11"}
    assert due(aged) == []
    count, first = left(aged, "decisions")
    assert 0 < count < SIZES["decisions"]
    assert first > 0
    # Few are kept for good.
    assert left(aged, "commands") == (SIZES["commands"], 0)
    assert findings(aged) == []
    settings, _ = aged
    with opened(settings.postgres_url("reader", "ultrathink")) as reader:
        log = next(row for row in reader.logs() if row.kind == "decisions")
        assert len(reader.leaves(log, 0, SIZES["decisions"])) == SIZES["decisions"]
        for number in (5_000, 5_990):
            (found,) = reader.find("decisions", "decision_id", f"market.ticks-0-{number}")
            assert check(to_file(prove_record(reader, found, KEYS)), KEYS)
        assert reader.find("decisions", "decision_id", "market.ticks-0-5") == []
        assert check(to_file(prove_consistency(reader, 0, reader.last_number(), KEYS)), KEYS)


def test_what_is_made_up_of_what_is_gone_is_found(aged):
    due(aged)
    # Earlier than allowed, as its first checkpoint says.
    assert {one.kind for one in findings(aged, now_ns=SEVEN_YEARS_LATER - 40 * 24 * HOUR_NS)} == {"retired"}
    for change in (
        "UPDATE trail.retired SET leaves = overlay(leaves PLACING '\\x00'::bytea FROM 40) WHERE first_index = 0",
        "UPDATE trail.retired SET first_index = first_index + 1 WHERE first_index = 0",
        "DELETE FROM trail.retired WHERE first_index = 0",
        "DELETE FROM trail.decisions WHERE leaf_index = 5500",
    ):
        with postgres.connect_url(aged[0].postgres_url("ultrathink")) as connection:
            assert connection.execute(change).rowcount > 0
            found = verify(TrailReader(connection), aged[1].lines(), KEYS, now_ns=SEVEN_YEARS_LATER).findings
            assert found, change
            connection.rollback()
    assert findings(aged) == []


def test_forensics_goes_on_over_what_is_gone(aged):
    settings, _ = aged
    writer = TrailWriter(settings.postgres_url("forensics", "ultrathink"))
    head = writer.open(TOPICS["decisions"], "decisions")
    # It knows the partition of November, which is then dropped.
    more = list(records("decisions", 6_400))
    old = structs.replace(more[6_000], value=more[5].value)
    writer._ensure_partitions([to_batch(head, [old])])
    due(aged)
    assert writer.store({TOPICS["decisions"]: more[:200]}).different == ()
    other = structs.replace(more[7], value=b"other")
    assert [r.offset for _, r in writer.store({TOPICS["decisions"]: [other]}).different] == [other.offset]
    with pytest.raises(ServiceUnavailable):
        writer.store({TOPICS["decisions"]: [old]})
    writer.open(TOPICS["decisions"], "decisions")
    assert writer.store({TOPICS["decisions"]: [old]}).new == 1
    writer.close()


def test_a_part_that_is_read_or_holds_a_record_twice_stays(aged):
    settings, _ = aged
    with postgres.connect_url(settings.postgres_url("reader", "ultrathink")) as reading:
        reading.execute("SELECT count(*) FROM trail.decisions").fetchone()
        with pytest.raises(ServiceUnavailable, match="decisions_y2025m11 cannot be retired: .*in use"):
            due(aged, patience=Patience(tries=1))
    # The other tables' parts have gone.
    assert left(aged, "orders")[0] < SIZES["orders"]
    run_as_owner(aged, "UPDATE trail.decisions_y2025m11 SET leaf_index = 7 WHERE leaf_index = 8")
    with pytest.raises(BadRecord, match="twice"):
        due(aged)
    assert left(aged, "decisions")[0] == SIZES["decisions"]


def test_a_damaged_part_is_said_to_be_damaged_and_keeps_no_other_from_going(aged):
    run_as_owner(aged, "UPDATE trail.decisions_y2025m11 SET leaf = '' WHERE leaf_index = 8")
    with pytest.raises(BadRecord, match="decisions_y2025m11 cannot be retired: .*leaves"):
        due(aged)
    assert left(aged, "orders")[0] < SIZES["orders"]


def test_whoever_reads_for_a_moment_is_waited_for(aged):
    with postgres.connect_url(aged[0].postgres_url("reader", "ultrathink")) as reading:
        reading.execute("SELECT count(*) FROM trail.decisions").fetchone()
        ending = threading.Timer(0.7, reading.rollback)
        ending.start()
        assert any(one.kind == "decisions" for one in due(aged, patience=Patience(pause_s=0.1)))
        ending.join()


def test_a_clock_that_is_wrong_ends_nothing(server, tmp_path):
    with fresh_database(server) as settings:
        migrated(settings)
        young = settings, build(settings, tmp_path / "young", {"decisions": 500})
        assert due(young) == []
        assert left(young, "decisions") == (500, 0)


def test_a_clock_that_leapt_while_a_checkpoint_was_signed_ends_nothing(aged):
    _, files = aged
    for path in files.files()[-2:-1]:
        path.unlink()
    with pytest.raises(ConfigurationError, match="leap to 2032-12-05, with none in the 40 days before"):
        due(aged)
    assert left(aged, "decisions")[0] == SIZES["decisions"]


class Ahead(NamedTuple):
    """A trail that is open for writing, and of which no more than its first `size` decisions are signed."""

    writer: TrailWriter
    head: LogHead
    size: int
    root: bytes
    more: list[Record]

    def tail(self):
        """Of the decisions, at what is signed."""
        return self.writer.tail(self.head.name, self.size, self.root)

    def store_more(self):
        """Nine that nobody signs."""
        self.writer.store({self.head.name: self.more})


@pytest.fixture
def ahead(aged):
    writer = TrailWriter(aged[0].postgres_url("forensics", "ultrathink"))
    head = writer.open(TOPICS["decisions"], "decisions")
    more = [structs.replace(r, offset=head.next_offset + k) for k, r in enumerate(records("decisions", 9))]
    yield Ahead(writer, head, SIZES["decisions"], head.tree.root(), more)
    writer.close()


def test_forged_places_and_rows_are_found_before_anything_is_signed(aged, ahead):
    """What the recorder asks at each start, on a database that its owner has changed."""
    head, size, more = ahead.head, ahead.size, ahead.more
    with ahead.tail() as tail:
        assert (tail.next_offset, list(tail.rows)) == (head.next_offset, [])
    ahead.store_more()
    with ahead.tail() as tail:
        assert compare_tail(head, tail, iter(more)) == Compared()
    with ahead.tail() as tail:
        assert "1 unsigned records" in compare_tail(head, tail, iter(more[:-1])).differs
    with ahead.writer.tail(head.name, size, b"x" * 32) as tail:
        assert tail is None
    # The last signed batch says that it reaches further than its last record.
    run_as_owner(aged, f"UPDATE trail.batches SET last_offset = last_offset + 1 WHERE to_size = {size}")
    with ahead.tail() as tail:
        assert tail is None
    run_as_owner(aged, f"UPDATE trail.batches SET last_offset = last_offset - 1 WHERE to_size = {size}")
    # A second row at a true offset, of another time.
    run_as_owner(
        aged,
        "INSERT INTO trail.decisions (log, record_offset, leaf_index, event_time, timestamp_type, timestamp_ms, leaf) "
        f"SELECT log, record_offset, leaf_index + 1, event_time - interval '1 day', 1, 1, '\\x00' FROM trail.decisions "
        f"WHERE leaf_index = {size + 3}",
    )
    with ahead.tail() as tail:
        found = compare_tail(head, tail, iter(more))
    assert "1 unsigned records" in found.differs
    assert found.damaged


CHANGES = (
    "value = '{}'", "value = NULL", "key = NULL", "headers = 'x'", "timestamp_ms = 7", "timestamp_type = 300",
    "leaf = '\\x00'",
)  # fmt: skip


def test_bytes_that_do_not_fit_the_leaf_beside_them_are_found_at_a_start(aged, ahead):
    """Of what is not signed, and of what Kafka is asked for again: the last records."""
    head, size, more = ahead.head, ahead.size, ahead.more
    ahead.store_more()
    with opened(aged[0].postgres_url("reader", "ultrathink")) as reader:
        (log,) = [row for row in reader.logs() if row.name == head.name]
        last = [
            to_record(row)
            for row in reader.rows("decisions", log.id, more[-1].offset - 40)
            if row[INDEX] >= size - 9
        ]
    assert last[-9:] == more
    for change, index in product(CHANGES, (size + 3, size - 3)):
        run_as_owner(aged, f"CREATE TABLE kept AS SELECT * FROM trail.decisions WHERE leaf_index = {index}")
        assert run_as_owner(aged, f"UPDATE trail.decisions SET {change} WHERE leaf_index = {index}") == 1
        with ahead.tail() as tail:
            # Of what is signed the leaves are looked at there, and the bytes below.
            assert (tail is None) == (index < size and "leaf" in change)
            found = compare_tail(head, tail, iter(more)) if tail else Compared()
        assert ("1 unsigned records" in found.differs, bool(found.damaged)) == (index > size,) * 2
        assert [record for _, record in ahead.writer.store({head.name: last}).different] == [last[index - size + 9]]
        run_as_owner(aged, f"DELETE FROM trail.decisions WHERE leaf_index = {index}")
        run_as_owner(aged, "INSERT INTO trail.decisions SELECT * FROM kept")
        run_as_owner(aged, "DROP TABLE kept")
    with ahead.tail() as tail:
        assert compare_tail(head, tail, iter(more)) == Compared()
    assert ahead.writer.store({head.name: last}).different == ()


def test_what_is_kept_for_good_is_missed_where_somebody_calls_it_retired(aged):
    run_as_owner(
        aged,
        "INSERT INTO trail.retired (log, first_index, first_offset, last_offset, record_offsets, leaves) "
        "SELECT log, 0, min(record_offset), max(record_offset), array_agg(record_offset ORDER BY leaf_index), "
        "string_agg(leaf, '' ORDER BY leaf_index) FROM trail.commands WHERE leaf_index < 10 GROUP BY log",
    )
    run_as_owner(aged, "DELETE FROM trail.commands WHERE leaf_index < 10")
    assert {one.kind for one in findings(aged)} == {"retired"}


def test_who_writes_and_who_reads_may_retire_nothing(aged):
    for role in ("forensics", "reader"):
        with pytest.raises(ServiceUnavailable, match="permission denied"):
            retire_due(
                aged[0].postgres_url(role, "ultrathink"), aged[1], KEYS, SEVEN_YEARS, now_ns=SEVEN_YEARS_LATER
            )
        with (
            postgres.connect_url(aged[0].postgres_url(role, "ultrathink")) as connection,
            pytest.raises(postgres.Error, match="permission denied"),
        ):
            connection.execute("INSERT INTO trail.retired VALUES (1, 0, 0, 0, '{}', '')")


def test_a_replay_whose_beginning_is_gone_says_so(aged):
    due(aged)
    settings, _ = aged
    mine = ForensicsSettings(
        decisions_topic=TOPICS["decisions"].topic, reader_url=settings.postgres_url("reader", "ultrathink")
    )
    with (
        opened(settings.postgres_url("reader", "ultrathink")) as reader,
        pytest.raises(ConfigurationError, match="decisions of partition 0 up to offset [0-9]+ are retired"),
    ):
        replay_span(reader, None, mine, Span(0))


#: As much of TimescaleDB as retention asks: its view of chunks, and what drops one, over the months of this trail.
OF_TIMESCALE = """
CREATE SCHEMA timescaledb_information;
CREATE VIEW timescaledb_information.chunks AS
SELECT 'trail'::name AS hypertable_schema, parent.relname AS hypertable_name, 'trail'::name AS chunk_schema,
    child.relname AS chunk_name, bounds[1]::timestamptz AS range_start, bounds[2]::timestamptz AS range_end
FROM pg_inherits JOIN pg_class parent ON parent.oid = inhparent JOIN pg_class child ON child.oid = inhrelid,
    regexp_match(pg_get_expr(child.relpartbound, child.oid), '(\\d{4}-[^'']+)''.*''(\\d{4}-[^'']+)''') AS bounds
WHERE parent.relnamespace = 'trail'::regnamespace AND child.relkind = 'r';
CREATE FUNCTION drop_chunks(relation regclass, older_than timestamptz, newer_than timestamptz) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    chunk name;
BEGIN
    FOR chunk IN SELECT chunk_name FROM timescaledb_information.chunks
        WHERE format('trail.%I', hypertable_name)::regclass = relation AND range_start >= newer_than
            AND range_end <= older_than
    LOOP
        EXECUTE format('DROP TABLE trail.%I', chunk);
    END LOOP;
END
$$;
DROP FUNCTION trail.parts_before(timestamptz);
DROP FUNCTION trail.drop_part(text, text);
"""


def test_what_only_timescaledb_runs_names_and_drops_the_same_parts(aged):
    """Its own functions over a stand-in for its view and call: a real one is tried outside this tree."""
    plain = due(aged, try_only=True)
    script = (MIGRATIONS / "timescale" / "0004_parts.sql").read_text()
    functions = script[script.index("-- Chunks of the tables") :]
    with postgres.connect_url(aged[0].postgres_url("ultrathink")) as connection:
        connection.execute(OF_TIMESCALE)
        connection.execute(functions)
    assert due(aged) == plain
    assert due(aged) == []
    assert findings(aged) == []
