"""Topics that were made anew with what they held: refused, compared, bound by a signed word, and decided on."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest
from confluent_kafka.admin import AdminClient
from typer.testing import CliRunner

from connectors.kafka.client import Producer
from connectors.kafka.messages import offset_of
from connectors.kafka.reading import read_to_end
from connectors.kafka.watermarks import bounds
from gateway.control.control import Control
from gateway.control.topic import all_commands
from loadtest.open_loop.publisher import TickPublisher
from loadtest.open_loop.schedule import Speed, plan
from services.forensics.checkpoint_files import CheckpointFiles
from services.forensics.kinds import BY_ROLE
from services.forensics.store.reading import opened
from stack.chaos.feed import wait_until_decided
from stack.cli.main import app
from stack.processes.forensics import running_forensics
from stack.processes.gateway import SeriesTopics, series_gateway
from stack.processes.own import running
from stack.servers.kafka import create_topics
from stack.servers.ports import free_ports
from tests.databases import fresh_database
from tests.waiting import eventually
from trading.errors import ServiceUnavailable
from trading.history import open_source
from trading.keys import make_keys, public_path
from trading.risk.limits import LimitsFile

pytestmark = [pytest.mark.long, pytest.mark.timeout(900), pytest.mark.usefixtures("exported")]
CLI = CliRunner()
PATIENT = {"budget_ms": "86400000", "reserve_ms": "0", "shed_below_ms": "0"}
LIMITS = LimitsFile(defaults={"max_staleness_s": None, "max_drawdown": None, "max_order_notional": 4000.0})
REASON = ("--reason", "Kafka was rebuilt from its disks")


class Desk:
    """A series of its own with its trail, and the topics as they were before they are made anew."""

    def __init__(self, stack, given):
        self.stack, self.given = stack, given
        self.topics = SeriesTopics("bound", "bound.ticks")
        self.admin = AdminClient({"bootstrap.servers": stack.kafka_bootstrap})
        create_topics(stack, self.topics.names)

    def gateway(self, **more):
        return series_gateway(self.stack, self.topics, "a", **PATIENT, **more)

    def decide(self, ticks, seed):
        """Some more, until all are decided and on record."""
        with running_forensics(self.stack, **self.given), running(self.gateway()) as process:
            process.wait_for_partitions()
            source = open_source(f"simulate:regimes?seed={seed}&ticks={ticks}&symbols=5")
            sent = TickPublisher(self.stack.kafka_bootstrap, self.topics.ticks)
            sent.publish(plan(source.records(), Speed("constant", rate_hz=600.0)))
            series, name = self.topics.series, self.topics.ticks
            assert wait_until_decided(self.stack, series, name, self.ends(), 30.0)
            eventually(lambda: self.on_record() == self.published(), 30)

    def ends(self):
        found = {
            p: bounds(self.stack.kafka_bootstrap, self.topics.ticks, p)[1] for p in range(self.stack.partitions)
        }
        return {p: end for p, end in found.items() if end}

    def messages(self, topic):
        """Partition -> offsets and messages."""
        address, partitions = self.stack.kafka_bootstrap, range(self.stack.partitions)
        return {p: [(offset_of(m), m) for c in read_to_end(address, topic, p, 0) for m in c] for p in partitions}

    def published(self):
        return sum(map(len, self.messages(self.topics.decisions).values()))

    def on_record(self):
        """Decisions of the topic that is there now, and that are signed."""
        lines = list(CheckpointFiles(Path(self.given["checkpoints"])).lines())
        trees = json.loads(lines[-1])["checkpoint"]["trees"] if lines else []
        with opened(self.given["reader_url"]) as reader:
            newest = {row.name.partition: row.name.topic_id for row in self.logs(reader)}
        return sum(t["size"] for t in trees if t["topic_id"] == newest.get(t["partition"]))

    def logs(self, reader):
        found = [row for row in reader.logs() if row.name.topic == self.topics.decisions]
        return sorted(found, key=lambda row: row.id)

    def bring_back(self, topic, messages):
        """Make the topic anew, and write what it held at the offsets where it lay."""
        self.admin.delete_topics([topic])[topic].result(20)
        eventually(lambda: topic not in self.admin.list_topics(timeout=10).topics, 20)
        create_topics(self.stack, {topic: self.topics.names[topic]})
        eventually(lambda: topic in self.admin.list_topics(timeout=10).topics, 20)
        for partition, held in messages.items():
            write_again(self.stack.kafka_bootstrap, topic, partition, held)

    def see_the_new(self):
        """The trail opens the logs that were made anew."""
        with opened(self.given["reader_url"]) as reader:
            before = len(self.logs(reader))
        with running_forensics(self.stack, **self.given):

            def is_seen():
                with opened(self.given["reader_url"]) as reader:
                    return len(self.logs(reader)) > before

            eventually(is_seen, 30)

    def refused(self, **more):
        """What a gateway that does not start says."""
        with pytest.raises(ServiceUnavailable) as told, running(self.gateway(**more)) as process:
            process.wait_for_partitions()
        return str(told.value)


def write_again(bootstrap, topic, partition, held):
    """The mark of a transaction's end takes an offset too."""
    if not held:
        return
    offsets = [offset for offset, _ in held]
    in_transactions = offsets != list(range(len(offsets)))
    settings = {"bootstrap.servers": bootstrap, "linger.ms": 5}
    producer = Producer(settings | ({"transactional.id": f"again-{time.time_ns()}"} if in_transactions else {}))
    if in_transactions:
        producer.init_transactions()
        producer.begin_transaction()
    assert offsets[0] == 0
    for (_, message), (offset, following) in zip(held, pairwise([*offsets, offsets[-1] + 1]), strict=True):
        _, time_ms = message.timestamp()
        producer.produce(
            topic, message.value(), message.key(), partition, timestamp=time_ms, headers=message.headers() or []
        )
        if following != offset + 1:
            assert following == offset + 2
            producer.commit_transaction()
            producer.begin_transaction()
    producer.commit_transaction() if in_transactions else producer.flush()


@pytest.fixture
def desk(stack, tmp_path, monkeypatch):
    with fresh_database(stack) as database:
        topics = SeriesTopics("bound", "bound.ticks")
        named = topics.topics.by_role()
        given = {
            **{f"{role}_topic": name for role, name in named.items() if role in {*BY_ROLE, "checkpoints", "ticks"}},
            "postgres_url": database.postgres_url("forensics"), "owner_url": database.postgres_url("ultrathink"),
            "reader_url": database.postgres_url("reader"), "checkpoints": str(tmp_path / "trail"),
            "metrics_port": free_ports(1)[0],
        }  # fmt: skip
        for prefix, values in (("FORENSICS", given), ("GATEWAY", topics.settings())):
            for name, value in values.items():
                monkeypatch.setenv(f"ULTRATHINK_{prefix}_{name.upper()}", str(value))
        made = Desk(stack, given)
        Control(stack.kafka_bootstrap, topics.control, stack.redis_url).apply(LIMITS, "a small desk", "test")
        yield made


def can_be_written(messages):
    """Whether no more than the mark of one transaction lies between two records."""
    return all(b - a <= 2 for held in messages.values() for (a, _), (b, _) in pairwise(held))


def turned(held):
    """The last first."""
    return list(zip([offset for offset, _ in held], [message for _, message in reversed(held)], strict=True))


class Said(NamedTuple):
    exit_code: int
    output: str
    stdout: str


def rebind(*words):
    command = [str(Path(sys.executable).parent / "ultrathink"), "forensics", "rebind", *REASON, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert "Traceback" not in done.stderr
    # Whole sentences: where nobody looks at a screen none is broken, but for those in a frame.
    return Said(done.returncode, " ".join((done.stdout + done.stderr).split()), done.stdout)


def test_topics_that_hold_what_was_decided_are_bound_and_others_are_not(desk, tmp_path):
    topics = desk.topics
    desk.decide(900, seed=11)
    nothing = rebind()
    assert nothing.exit_code == 2, nothing.output
    assert "no gateway of the group bound refuses it" in nothing.output
    ticks, decisions = desk.messages(topics.ticks), desk.messages(topics.decisions)
    place = next(p for p, held in decisions.items() if len(held) > 10)

    # Two marks of transactions in a row are nothing that a client can write: the decisions stay where they are then.
    anew = can_be_written(decisions)
    if anew:
        desk.bring_back(topics.decisions, {p: held[:-1] if p == place else held for p, held in decisions.items()})
        assert "forensics rebind" in desk.refused()
        lacking = rebind()
        assert lacking.exit_code == 2, lacking.output
        assert f"{topics.decisions}[{place}] has no record at offset {decisions[place][-1][0]}" in lacking.output

        desk.bring_back(topics.decisions, decisions)

    desk.bring_back(topics.ticks, {p: held[:3] if p == place else held for p, held in ticks.items()})
    short = rebind()
    assert short.exit_code == 2, short.output
    assert "ticks that were decided" in short.output

    desk.bring_back(topics.ticks, {p: turned(held) if p == place else held for p, held in ticks.items()})
    # What the trail has of the new one says nothing of what was decided.
    if anew:
        desk.see_the_new()
    other = rebind()
    assert other.exit_code == 2, other.output
    assert f"{topics.ticks}[{place}] does not hold the ticks that were decided" in other.output

    desk.bring_back(topics.ticks, ticks)
    tried = rebind("--dry-run", "--json")
    assert tried.exit_code == 0, tried.output
    told = json.loads(tried.stdout)
    assert told["bound"] is False
    assert told["rebinding"]["replayed"] == 900
    assert sum(one["records"] for one in told["rebinding"]["logs"]) == (900 if anew else 0)
    desk.refused()

    bound = rebind()
    assert bound.exit_code == 0, bound.output
    assert "900 decisions made again of the ticks that are there: all the same" in bound.output
    # On the control topic, as any word of a human; who does not know the key does not believe it.
    commands = [c for c in all_commands(desk.stack.kafka_bootstrap, topics.control) if c.kind == "rebind"]
    assert [c.reason for c in commands] == [REASON[1]]
    make_keys(tmp_path / "another")
    desk.refused(rebinding_keys=public_path(tmp_path / "another"))
    again = rebind()
    assert again.exit_code == 2
    assert "which is bound already" in again.output, again.output

    with running(desk.gateway()) as process:
        process.wait_for_partitions()
        busy = rebind()
    assert busy.exit_code == 2, busy.output
    assert "the group bound has members (1)" in busy.output

    # The book goes on where it was, and the whole past replays.
    desk.decide(300, seed=12)
    replayed = CLI.invoke(app, ["forensics", "replay", "--json"])
    assert replayed.exit_code == 0, replayed.output
    assert sum(span["decisions"] for span in json.loads(replayed.stdout)["spans"]) == 1200
