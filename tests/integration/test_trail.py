"""The trail on a real PostgreSQL: migrations, rights, exactly once, verification, proofs, tampering."""

from __future__ import annotations

import json
import shutil
import threading

import pytest
from msgspec import structs
from typer.testing import CliRunner

from connectors import postgres
from connectors.migrations import versions_of
from services.forensics.bootstrap import MIGRATIONS, migrate_trail
from services.forensics.checkpoint_files import CheckpointFiles
from services.forensics.checkpoints import digest, make, read, sign
from services.forensics.kinds import KINDS, columns_of, types_of
from services.forensics.merkle.tree import GrowingTree
from services.forensics.ports import Alarm, LogName
from services.forensics.proving import check, prove_consistency, prove_record, to_file
from services.forensics.signing import SECOND_NS
from services.forensics.store.reading import TrailReader, opened
from services.forensics.store.writer import TrailWriter
from services.forensics.verification import verify
from stack.cli.main import app
from tests.databases import fresh_database, migrated, running_postgres
from tests.fuzz.audit import SIZES, audit
from tests.trails import KEY, KEYS, TOPICS, build, records
from trading.errors import BadRecord, ConfigurationError, ServiceUnavailable
from trading.keys import to_pem

CLI = CliRunner()
WHAT_IT_WAS = """
CREATE TABLE decisions (decision_id text NOT NULL, event_time timestamptz NOT NULL, evidence jsonb NOT NULL,
    PRIMARY KEY (decision_id, event_time));
CREATE TABLE undecodable_decisions (digest bytea PRIMARY KEY, payload bytea NOT NULL);
INSERT INTO decisions VALUES ('market.ticks-0-1', now(), '{}');
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    home = tmp_path_factory.mktemp("trail")
    home.chmod(0o755)
    with running_postgres(home) as settings:
        yield settings


@pytest.fixture(scope="module")
def trail(server, tmp_path_factory):
    """A whole trail, never changed: its settings and checkpoints."""
    migrated(server)
    return server, build(server, tmp_path_factory.mktemp("checkpoints"), SIZES)


@pytest.fixture
def empty(server):
    """A database of its own, with a trail that holds nothing."""
    with fresh_database(server) as settings:
        migrated(settings)
        yield settings


def owner(settings):
    return postgres.connect_url(settings.postgres_url("ultrathink"))


def schema_of(settings):
    with owner(settings) as connection:
        return connection.execute(
            "SELECT table_name, column_name, data_type, is_nullable FROM information_schema.columns "
            "WHERE table_schema = 'trail' AND table_name !~ '_y[0-9]' ORDER BY 1, 2"
        ).fetchall()


def test_every_version_leads_to_the_same_schema_and_keeps_what_was_there(server):
    made = []
    for version in ["", *versions_of(MIGRATIONS)]:
        with fresh_database(server) as settings:
            with owner(settings) as connection:
                connection.execute(WHAT_IT_WAS)
            if version:
                migrated(settings, version)
            assert migrated(settings)[1] == versions_of(MIGRATIONS)[-1]
            assert migrated(settings) == (versions_of(MIGRATIONS)[-1],) * 2
            made.append(schema_of(settings))
            with owner(settings) as connection:
                assert connection.execute("SELECT count(*) FROM decisions_before_trail").fetchone() == (1,)
    assert all(schema == made[0] for schema in made)
    for kind in KINDS:
        declared = [(name, told) for table, name, told, _ in made[0] if table == kind.name]
        assert sorted(name for name, _ in declared) == sorted(columns_of(kind))
        spelled = {"timestamptz": "timestamp with time zone", "text[]": "ARRAY"}
        assert dict(declared) == {
            n: spelled.get(t, t) for n, t in zip(columns_of(kind), types_of(kind), strict=True)
        }


def test_a_trail_of_an_older_version_is_named_before_anything_is_asked_of_it(server):
    with fresh_database(server) as settings:
        for version in versions_of(MIGRATIONS)[:-1]:
            migrated(settings, version)
            with (
                pytest.raises(ConfigurationError, match="older version: `ultrathink forensics migrate` renews it"),
                opened(settings.postgres_url("reader")),
            ):
                pass
        migrated(settings)
        with opened(settings.postgres_url("reader")) as reader:
            assert reader is not None


def test_a_role_that_is_missing_and_a_version_that_is_newer_are_said(server):
    with fresh_database(server) as settings:
        migrated(settings)
        with owner(settings) as connection:
            connection.execute("UPDATE trail.alembic_version SET version_num = '9999'")
        with pytest.raises(ConfigurationError, match="9999"):
            migrated(settings)
    with pytest.raises(ServiceUnavailable, match="PostgreSQL at .* does not answer"):
        migrate_trail("postgresql://ultrathink:wrong@127.0.0.1:1/none")


@pytest.mark.parametrize(
    ("role", "statement"),
    [
        ("forensics", "UPDATE trail.decisions SET symbol = 'X'"),
        ("forensics", "DELETE FROM trail.batches"),
        ("forensics", "TRUNCATE trail.orders"),
        ("forensics", "DROP TABLE trail.orders"),
        ("forensics", "UPDATE trail.decisions_y2025m11 SET symbol = 'X'"),
        ("forensics", "CREATE TABLE trail.mine (a int)"),
        ("forensics", "DELETE FROM trail.alarms"),
        ("forensics", "UPDATE trail.checkpoints SET line = ''"),
        ("reader", "INSERT INTO trail.alarms (kind, detail) VALUES ('x', 'y')"),
        ("reader", "DELETE FROM trail.decisions"),
        ("reader", "SELECT trail.ensure_partition('decisions', now())"),
    ],
)
def test_who_writes_may_add_and_read_and_who_reads_may_read(trail, role, statement):
    settings, _ = trail
    with postgres.connect_url(settings.postgres_url(role, "ultrathink")) as connection:
        assert connection.execute("SELECT count(*) FROM trail.decisions").fetchone() == (SIZES["decisions"],)
        with pytest.raises(postgres.Error) as raised:
            connection.execute(statement)
    assert raised.value.sqlstate in {"42501", "42P01"}


def test_a_partition_is_made_for_our_tables_alone(empty):
    with postgres.connect_url(empty.postgres_url("forensics", "ultrathink")) as connection:
        connection.autocommit = True
        for kind in ("batches", "decisions; DROP TABLE trail.orders", "pg_class"):
            with pytest.raises(postgres.Error, match="no table"):
                connection.execute("SELECT trail.ensure_partition(%s, now())", (kind,))
        assert connection.execute(
            "SELECT trail.ensure_partition('decisions', '1990-02-28 23:59:59Z')"
        ).fetchone() == (True,)
        assert connection.execute(
            "SELECT trail.ensure_partition('decisions', '1990-02-01 00:00:00Z')"
        ).fetchone() == (False,)


def test_a_trail_that_nobody_touched_is_verified_from_everywhere(trail):
    settings, files = trail
    lines = list(files.lines())
    with opened(settings.postgres_url("reader", "ultrathink")) as reader:
        whole = verify(reader, lines, KEYS)
        assert whole.findings == []
        assert {v.log.partition("[")[0].removeprefix("topic."): v.proven for v in whole.logs} == SIZES
        for number in (0, len(lines) // 2, len(lines) - 1):
            since = read(lines[number], KEYS)
            assert verify(reader, lines, KEYS, since=since).findings == []
            until = verify(reader, lines, KEYS, until=number)
            assert until.findings == []
            assert sum(v.records for v in until.logs) == sum(since.sizes.values())


def test_a_trusted_checkpoint_that_another_trail_signed_is_told(trail):
    settings, files = trail
    lines = list(files.lines())
    since = read(lines[5], KEYS)
    other = structs.replace(since, trees=tuple(structs.replace(head, root="00" * 32) for head in since.trees))
    with opened(settings.postgres_url("reader", "ultrathink")) as reader:
        found = verify(reader, lines, KEYS, since=other)
    assert {f.log.topic for f in found.findings} == {head.topic for head in since.trees if head.size}


def test_what_a_forged_batch_or_log_claims_is_found_without_end_or_traceback(trail):
    settings, files = trail
    with owner(settings) as connection:
        log = connection.execute("SELECT id FROM trail.logs WHERE kind = 'orders'").fetchone()[0]
        connection.execute(
            "INSERT INTO trail.batches VALUES (%s, %s, %s, 0, 0, now(), now(), %s, '')",
            (log, 2**62, 2**62 + 1, b"x" * 32),
        )
        connection.execute("UPDATE trail.logs SET kind = 'junk' WHERE kind = 'fills'")
        found = verify(TrailReader(connection), files.lines(), KEYS).findings
        connection.rollback()
    assert any(f.kind == "batch" and f.log == TOPICS["orders"] for f in found)
    assert any(f.kind == "log" and "junk" in f.detail for f in found)


def test_what_is_signed_while_one_looks_is_no_finding(trail):
    """Lines that the database has not seen yet cover records that it does not show."""
    settings, files = trail
    lines = list(files.lines())
    last = read(lines[-1], KEYS)
    more = tuple(structs.replace(head, size=head.size + 5, root="11" * 32) for head in last.trees)
    newer = sign(make(last.number + 1, last.signed_at_ns + SECOND_NS, digest(lines[-1]), more), KEY)
    with opened(settings.postgres_url("reader", "ultrathink")) as reader:
        assert verify(reader, [*lines, newer], KEYS, now_ns=last.signed_at_ns).findings == []
        late = verify(reader, [*lines, newer], KEYS, now_ns=last.signed_at_ns + 60 * SECOND_NS).findings
    assert {"missing", "checkpoint"} <= {f.kind for f in late}


@pytest.mark.slow
def test_random_tampering_is_found_and_located(trail):
    done, wrong = audit(*trail, tamperings=150, seed=7)
    assert wrong == []
    assert len(done) > 20


def test_a_decision_is_proven_offline_and_a_changed_proof_is_not(trail):
    settings, _ = trail
    with opened(settings.postgres_url("reader", "ultrathink")) as reader:
        (found,) = reader.find("decisions", "decision_id", "market.ticks-0-4711")
        proof = prove_record(reader, found, KEYS)
    content = to_file(proof)
    checked = check(content, KEYS)
    assert checked.record.value == found.record.value
    assert checked.hashes <= 13
    changed = json.loads(content)
    for field, value in (
        ("leaf_index", proof.leaf_index + 1), ("path", proof.path[1:]), ("topic_id", "other"), ("partition", 1), ("topic", "x"),
        ("record", {**changed["record"], "offset": 5}), ("record", {**changed["record"], "value": "e30="}),
        ("checkpoint", changed["checkpoint"].replace('"size":7000', '"size":6999')), ("path", ["zz"]), ("path", ["00"]),
    ):  # fmt: skip
        with pytest.raises(BadRecord):
            check(json.dumps({**changed, field: value}).encode(), KEYS)
    for rubbish in (b"", b"{}", b"[]", b"\xff", b'{"form":"other"}'):
        with pytest.raises(BadRecord):
            check(rubbish, KEYS)
    with pytest.raises(BadRecord, match="not trusted"):
        check(content, {})


def test_checkpoints_are_proven_to_follow_from_one_another(trail):
    settings, files = trail
    last = len(list(files.lines())) - 1
    with opened(settings.postgres_url("reader", "ultrathink")) as reader:
        for first, second in ((0, last), (3, 4), (last, last), (0, 1)):
            proof = prove_consistency(reader, first, second, KEYS)
            assert check(to_file(proof), KEYS).number == second
        with pytest.raises(ConfigurationError, match="no checkpoint"):
            prove_consistency(reader, 0, last + 1, KEYS)
    forged = structs.replace(proof, earlier=proof.later, later=proof.earlier)
    with pytest.raises(BadRecord):
        check(to_file(forged), KEYS)


def test_records_are_kept_once_whoever_brings_them(empty):
    url = empty.postgres_url("forensics", "ultrathink")
    name, some = TOPICS["orders"], list(records("orders", 50))
    writer = TrailWriter(url)
    writer.open(name, "orders")
    assert writer.store({name: some[:30]}).new == 30
    again = writer.store({name: some[10:40]})
    assert (again.new, again.different) == (10, ())
    other = structs.replace(some[5], value=b"forged")
    assert writer.store({name: [other]}).different == ((name, other),)
    with pytest.raises(ServiceUnavailable, match="another forensics"):
        TrailWriter(url)
    writer.close()
    second = TrailWriter(url, 5.0)
    head = second.open(name, "orders")
    assert (head.tree.size, head.next_offset) == (40, some[39].offset + 1)
    assert second.store({name: some}).new == 10
    second.close()


def test_a_second_writer_that_got_past_the_lock_stores_nothing_twice(empty):
    url = empty.postgres_url("forensics", "ultrathink")
    name, some = TOPICS["fills"], list(records("fills", 50))
    writer = TrailWriter(url)
    writer.open(name, "fills")
    writer.store({name: some[:10]})
    # The lock is its connection's: one that was cut by a network has lost it and does not know.
    writer._connection.execute("SELECT pg_advisory_unlock_all()")
    second = TrailWriter(url)
    second.open(name, "fills")
    second.store({name: some[:20]})
    with pytest.raises(ServiceUnavailable):
        writer.store({name: some[10:30]})
    second.close()
    # What it had read is not taken for granted any more: its heads are those of the database.
    with pytest.raises(ServiceUnavailable, match="not where it was left"):
        writer.store({name: some[10:30]})
    assert writer.store({name: some[10:30]}).new == 10
    with owner(empty) as connection:
        assert connection.execute("SELECT count(*), count(DISTINCT record_offset) FROM trail.fills").fetchone() == (
            30,
            30,
        )
    writer.close()


def test_a_connection_that_is_killed_loses_and_repeats_nothing(empty):
    name, some = TOPICS["decisions"], list(records("decisions", 3000))
    writer = TrailWriter(empty.postgres_url("forensics", "ultrathink"))
    writer.open(name, "decisions")
    stopping = threading.Event()

    def kill():
        with owner(empty) as connection:
            connection.autocommit = True
        with postgres.connect(**administrator(empty)) as connection:
            connection.autocommit = True
            while not stopping.wait(0.05):
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'forensics'"
                )

    thread = threading.Thread(target=kill)
    thread.start()
    at, refused = 0, 0
    try:
        while at < len(some):
            try:
                writer.store({name: some[max(0, at - 5) : at + 37]})
            except ServiceUnavailable:
                refused += 1
            else:
                at += 37
    finally:
        stopping.set()
        thread.join()
    assert refused > 0
    writer.close()
    with opened(empty.postgres_url("reader", "ultrathink")) as reader:
        found = verify(reader, [], KEYS)
        # Nothing was signed; all else holds.
        assert [f.place for f in found.findings] == ["the folder of checkpoints"]
        assert sum(v.records for v in found.logs) == len(some)


def administrator(settings):
    return {
        "host": "127.0.0.1", "port": settings.ports.postgres, "dbname": "postgres", "user": "postgres",
        "password": settings.secret("postgres-admin"),
    }  # fmt: skip


def test_the_same_records_make_the_same_roots_in_any_batches(empty, server):
    name = LogName("one", 0, "t")
    some, roots = list(records("decisions", 700)), []
    for step in (1, 7, 700):
        with fresh_database(server) as settings:
            migrated(settings)
            writer = TrailWriter(settings.postgres_url("forensics", "ultrathink"))
            head = writer.open(name, "decisions")
            for at in range(0, len(some) if step > 1 else 60, step):
                writer.store({name: some[at : at + step]})
            roots.append((head.tree.size, head.tree.root()))
            writer.close()
    assert roots[1] == roots[2]
    tree = GrowingTree()
    from services.forensics.records import leaf_of

    for one in some[:60]:
        tree.append(leaf_of(one))
    assert roots[0] == (60, tree.root())


@pytest.fixture
def command(trail, tmp_path, monkeypatch):
    """`ultrathink forensics …` on the trail that nobody changed."""
    settings, files = trail
    monkeypatch.setenv("ULTRATHINK_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ULTRATHINK_FORENSICS_READER_URL", settings.postgres_url("reader", "ultrathink"))
    monkeypatch.setenv("ULTRATHINK_FORENSICS_CHECKPOINTS", str(files.folder))
    public = tmp_path / "key.pub"
    public.write_text(to_pem(KEY.public_key()))

    def run(*words, key=True):
        return CLI.invoke(app, ["forensics", *words, *(["--key", str(public)] if key else [])])

    return run


def test_a_person_verifies_proves_and_checks(command, tmp_path):
    done = command("verify")
    assert done.exit_code == 0, done.output
    assert "every record is as it was signed" in done.output
    assert json.loads(command("verify", "--json", "--since", "3", "--until", "9").output)["findings"] == []
    proof, later = tmp_path / "proof.json", tmp_path / "consistency.json"
    assert command("prove", "market.ticks-0-4711", "--out", str(proof)).exit_code == 0
    assert command("consistency", "0", "9", "--out", str(later)).exit_code == 0
    for file in (proof, later):
        assert "it holds" in command("check-proof", str(file)).output
    proof.write_text(proof.read_text().replace('"leaf_index": 4711', '"leaf_index": 4712'))
    refused = command("check-proof", str(proof), "--json")
    assert (refused.exit_code, json.loads(refused.output)["holds"]) == (1, False)
    shown = command("show", "market.ticks-0-4711", key=False)
    assert json.loads(shown.output)["decision_id"] == "market.ticks-0-4711"
    assert command("show", "market.ticks-0-999999", key=False).exit_code == 1
    assert command("alarms", key=False).output == "no alarms\n"


def test_a_person_sees_what_was_changed_and_where(command, trail, tmp_path):
    _, files = trail
    folder = tmp_path / "cut"
    shutil.copytree(files.folder, folder)
    (path,) = folder.iterdir()
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-3]))
    done = command("verify", "--checkpoints", str(folder))
    assert done.exit_code == 1
    assert "it was cut" in done.output
    empty = command("verify", "--checkpoints", str(tmp_path / "nowhere"))
    assert (empty.exit_code, "name their folder with --checkpoints" in empty.output) == (1, True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("verify", "--since", "99999"), "has no checkpoint 99999"),
        (("verify", "--since", "/nowhere"), "'/nowhere' is neither the number of a checkpoint nor a file"),
        (("verify", "--since", "3", "--until", "2"), "--until 2 does not follow --since 3"),
        (("verify", "--until", "99999"), "has no checkpoint 99999"),
        (("prove", "market.ticks-0-999999"), "is not on record"),
        (("consistency", "9", "99999"), "no checkpoint 99999"),
        (("check-proof", "/nowhere"), "/nowhere cannot be read"),
        (("prove", "market.ticks-0-4711", "--out", "/nowhere/x"), "cannot be written"),
    ],
)
def test_a_persons_mistake_is_a_sentence(command, words, said):
    done = command(*words)
    assert said in str(done.exception)
    assert isinstance(done.exception, ConfigurationError)


def test_a_database_without_a_trail_is_said(server):
    with fresh_database(server) as settings:
        for open_it in (
            lambda: TrailWriter(settings.postgres_url("forensics", "ultrathink")),
            lambda: opened(settings.postgres_url("reader", "ultrathink")).__enter__(),
        ):
            with pytest.raises(ConfigurationError, match="forensics migrate"):
                open_it()
    assert CheckpointFiles(server.home / "nowhere").last() is None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("accept", "7", "--reason", "seen"), "there is no alarm 7"),
        (("accept", "7", "--reason", "  "), "--reason is empty"),
        (("gaps", "--topic", ""), "'' is not on the trail: name one of"),
        (("retire",), "set ULTRATHINK_FORENSICS_OWNER_URL"),
        (("retire", "--daily", "--json"), "--daily goes on until it is stopped"),
    ],
)
def test_a_mistake_of_who_runs_it_is_a_sentence(trail, monkeypatch, tmp_path, words, said):
    monkeypatch.setenv("ULTRATHINK_HOME", str(tmp_path))
    monkeypatch.setenv("ULTRATHINK_FORENSICS_READER_URL", trail[0].postgres_url("reader", "ultrathink"))
    done = CLI.invoke(app, ["forensics", *words])
    assert said in str(done.exception)


def test_an_alarm_that_somebody_has_looked_at_is_told_with_who_and_why(empty, monkeypatch, tmp_path):
    writer = TrailWriter(empty.postgres_url("forensics", "ultrathink"))
    writer.raise_alarm(Alarm("log_cut", "a log was cut"))
    writer.raise_alarm(Alarm("log_cut", "a log was cut"))
    writer.raise_alarm(Alarm("log_cut", "another was cut"))
    writer.close()
    monkeypatch.setenv("ULTRATHINK_HOME", str(tmp_path))
    monkeypatch.setenv("ULTRATHINK_FORENSICS_READER_URL", empty.postgres_url("reader", "ultrathink"))
    monkeypatch.setenv("ULTRATHINK_FORENSICS_CHECKPOINTS", str(tmp_path))

    def told():
        done = CLI.invoke(app, ["forensics", "alarms", "--json"])
        return done.exit_code, json.loads(done.stdout)

    code, alarms = told()
    assert (code, [one["detail"] for one in alarms]) == (1, ["a log was cut", "another was cut"])
    for one in alarms:
        reason = "incident \udcff 41" if one is alarms[0] else "the same"
        done = CLI.invoke(app, ["forensics", "accept", str(one["number"]), "--reason", reason])
        assert done.exit_code == 0, done.exception
    code, alarms = told()
    assert code == 0
    assert alarms[0]["accepted"]["reason"] == "incident \\udcff 41"
    assert "the same" in CLI.invoke(app, ["forensics", "alarms"]).output
