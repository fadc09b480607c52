"""Forensics between a real Kafka and a real PostgreSQL: exactly what a read-committed reader sees, whatever falls."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from contextlib import contextmanager

import pytest

from connectors.kafka.admin import admin_client
from connectors.kafka.client import Producer
from connectors.kafka.reading import read_to_end
from connectors.kafka.topics import UNPARTITIONED
from services.forensics.bootstrap import build
from services.forensics.kinds import BY_ROLE
from services.forensics.settings import ForensicsSettings
from services.forensics.source import to_record
from services.forensics.store.reading import opened
from services.forensics.store.reading import to_record as of_row
from services.forensics.verification import verify
from stack.servers.kafka import create_topics
from stack.servers.ports import free_ports
from stack.supervision.status import read_status
from tests.databases import fresh_database
from tests.trails import values
from trading.errors import ConfigurationError, ServiceUnavailable
from trading.keys import make_keys, public_keys, public_path


def eventually(condition, seconds=40.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


class Trail:
    """A forensics in a thread of this process, on topics and a database of its own."""

    def __init__(self, stack, database, folder, series, without=()):
        self.stack, self.database, self.series = stack, database, series
        self.key = folder / "signing-key"
        if not self.key.exists():
            make_keys(self.key)
        self.journal = folder / "journal.jsonl"
        roles = [*BY_ROLE, "checkpoints"]
        create_topics(stack, {f"{series}.{role}": like(role) for role in roles if role not in without})
        self.settings = ForensicsSettings(
            kafka_bootstrap=stack.kafka_bootstrap, postgres_url=database.postgres_url("forensics"),
            owner_url=database.postgres_url("ultrathink"), reader_url=database.postgres_url("reader"), signing_key=self.key,
            checkpoints=folder / "trail", releases_journal=self.journal, metrics_port=free_ports(1)[0],
            look_s=0.5, **{f"{role}_topic": f"{series}.{role}" for role in roles},
        )  # fmt: skip
        self.waiting = []

    @contextmanager
    def running(self):
        stopping, failed = threading.Event(), []

        def run():
            try:
                with build(self.settings, stopping, lambda _, waiting: self.waiting.append(waiting)) as recorder:
                    self.recorder = recorder
                    recorder.run()
            except Exception as error:  # noqa: BLE001 - told by whoever waits for it
                failed.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield
        finally:
            stopping.set()
            thread.join(30)
        assert not thread.is_alive()
        assert failed == []

    def topic(self, role):
        return f"{self.series}.{role}"

    def published(self, role):
        """Partition -> what a read-committed reader sees."""
        partitions = self.stack.partitions if role in {"decisions", "orders", "fills", "dead_letters"} else 1
        found = {}
        for partition in range(partitions):
            chunks = read_to_end(self.stack.kafka_bootstrap, self.topic(role), partition, 0)
            found[partition] = [to_record(message) for chunk in chunks for message in chunk]
        return found

    def recorded(self, role):
        with opened(self.settings.reader_url.get_secret_value()) as reader:
            logs = [row for row in reader.logs() if row.name.topic == self.topic(role)]
            return {row.name.partition: [of_row(r) for r in reader.rows(row.kind, row.id, 0)] for row in logs}

    def whole(self):
        """Whether everything that is published is on record."""
        return all(self.recorded(role) == self.published(role) for role in BY_ROLE)

    def count(self):
        try:
            with opened(self.settings.reader_url.get_secret_value()) as reader:
                return reader.count()
        except (ServiceUnavailable, ConfigurationError):
            return 0

    def verified(self):
        from services.forensics.checkpoint_files import CheckpointFiles

        keys = public_keys([public_path(self.key)])
        with opened(self.settings.reader_url.get_secret_value()) as reader:
            return verify(reader, CheckpointFiles(self.settings.checkpoints).lines(), keys)

    def alarms(self):
        with opened(self.settings.reader_url.get_secret_value()) as reader:
            return [kind for _, _, kind, _ in reader.alarms()]


def like(role):
    from connectors.kafka.topics import TOPICS

    return TOPICS.by_role()[role]


@pytest.fixture
def trail(stack, tmp_path, request):
    with fresh_database(stack) as database:
        yield Trail(stack, database, tmp_path, f"trail{abs(hash(request.node.name)) % 10**8}")


def produce(trail, role, count, begin=0):
    """Some committed, some aborted, some outside a transaction, on every partition."""
    producer = Producer(
        {
            "bootstrap.servers": trail.stack.kafka_bootstrap,
            "transactional.id": f"{trail.series}-{role}",
            "log_level": 0,
        }
    )
    producer.init_transactions(10)
    made = values(BY_ROLE[role].name)
    partitions = 1 if role in UNPARTITIONED else trail.stack.partitions
    for n in range(begin, begin + count):
        producer.begin_transaction()
        for k in range(3):
            value = b"\xff no json" if (n + k) % 7 == 0 else next(made)
            producer.produce(
                trail.topic(role),
                value,
                b"K",
                partition=(n + k) % partitions,
                headers=[("n", b"%d" % n), ("none", None)],
            )
        if n % 4 == 3:
            producer.flush(10)
            producer.abort_transaction(10)
        else:
            producer.commit_transaction(10)


def test_all_kinds_are_on_record_byte_for_byte_and_verified(trail):
    trail.journal.write_bytes(
        b"".join(value + b"\n" for value, _ in zip(values("releases"), range(5), strict=False))
    )
    with trail.running():
        for role in BY_ROLE:
            if role != "releases":
                produce(trail, role, 8)
        eventually(lambda: trail.count() >= 6 * 6 * 3 + 5 and trail.whole())
        eventually(lambda: sum(v.proven for v in trail.verified().logs) == trail.count())
    found = trail.verified()
    assert found.findings == []
    assert found.checkpoints >= 1
    assert [json.loads(r.value)["id"] for r in trail.recorded("releases")[0]] == ["r0", "r1", "r2", "r3", "r4"]
    assert trail.alarms() == []
    assert trail.recorded("decisions")[0][0].headers is not None


@pytest.mark.slow
def test_postgresql_that_restarts_is_waited_for_and_loses_nothing(trail, stack):
    def postgres():
        return next(s for s in read_status(stack.absolute_home).services if s.name == "postgres")

    with trail.running():
        produce(trail, "decisions", 8)
        eventually(lambda: trail.count() > 0)
        first, supervisor = postgres(), read_status(stack.absolute_home).supervisor.pid
        # It is down until that was noticed: on a busy machine it would be back before.
        os.kill(supervisor, signal.SIGSTOP)
        try:
            os.kill(first.process.pid, signal.SIGINT)  # a fast shutdown: every connection ends
            produce(trail, "decisions", 20, 8)
            eventually(lambda: any(trail.waiting), 60)
        finally:
            os.kill(supervisor, signal.SIGCONT)
        eventually(lambda: postgres().restarts > first.restarts and postgres().state == "ready", 60)
        eventually(lambda: trail.count() > 0 and trail.whole(), 60)
    assert trail.verified().findings == []
    assert trail.alarms() == []


@pytest.mark.slow
def test_a_restart_goes_on_where_it_was_and_a_lost_database_is_built_again_with_the_same_roots(
    trail, stack, tmp_path
):
    produce(trail, "decisions", 12)
    for _ in range(2):
        with trail.running():
            eventually(lambda: trail.count() > 0 and trail.whole())
            eventually(lambda: sum(v.proven for v in trail.verified().logs) == trail.count())
    before = {v.log: v.records for v in trail.verified().logs}
    with fresh_database(stack) as other:
        again = Trail(stack, other, tmp_path, trail.series)
        with again.running():
            eventually(lambda: again.count() > 0 and again.whole())
        found = again.verified()
        assert found.findings == []
        assert {v.log: v.records for v in found.logs} == before
        assert all(v.proven == v.records for v in found.logs)
        assert again.alarms() == []


@pytest.mark.slow
def test_a_topic_that_is_made_anew_is_another_log(trail, stack):
    with trail.running():
        produce(trail, "orders", 4)
        eventually(lambda: trail.count() > 0 and trail.whole())
        admin = admin_client(stack.kafka_bootstrap)
        admin.delete_topics([trail.topic("orders")])[trail.topic("orders")].result(20)
        time.sleep(1)
        create_topics(stack, {trail.topic("orders"): "trading.orders"})
        produce(trail, "orders", 6, 100)
        # What a reader sees now, beside what it saw before.
        eventually(lambda: trail.count() == 3 * 3 + 5 * 3, 60)
    assert trail.verified().findings == []
    with opened(trail.settings.reader_url.get_secret_value()) as reader:
        assert len({row.name.topic_id for row in reader.logs() if row.name.topic == trail.topic("orders")}) == 2


def test_a_cluster_of_before_this_version_is_recorded_and_its_new_topic_found_when_it_is_made(stack, tmp_path):
    with fresh_database(stack) as database:
        trail = Trail(stack, database, tmp_path, "older", without={"starts"})
        with trail.running():
            produce(trail, "decisions", 12)
            eventually(lambda: trail.recorded("decisions") == trail.published("decisions") != {})
            assert trail.recorded("starts") == {}
            create_topics(stack, {trail.topic("starts"): like("starts")})
            produce(trail, "starts", 3)
            eventually(trail.whole)
            eventually(lambda: sum(v.proven for v in trail.verified().logs) == trail.count())
        assert trail.alarms() == []
