"""kill -9 of every process of a desk, at random: the trail holds what Kafka holds, and every gap is explained."""

from __future__ import annotations

import csv
import json
import random
import re
import signal
import subprocess
import threading
import time
from contextlib import ExitStack, suppress
from itertools import islice

import pytest
from typer.testing import CliRunner

from connectors.kafka.reading import read_to_end
from gateway.control.control import Control
from loadtest.open_loop.publisher import TickPublisher
from loadtest.open_loop.schedule import Speed, plan
from services.forensics.kinds import BY_ROLE
from services.forensics.store.reading import opened
from stack.chaos.servers import ServerFaults
from stack.cli.main import app
from stack.processes.gateway import SeriesTopics, series_gateway
from stack.processes.own import OwnProcess
from stack.servers.kafka import create_topics, java_command
from stack.servers.ports import free_ports
from tests.databases import fresh_database
from tests.e2e.test_trail import LIMITS, PATIENT, environment, published, recorded
from tests.waiting import eventually
from trading.errors import ServiceUnavailable, UltraThinkError
from trading.history import open_source

CLI = CliRunner()
SEED, TICKS, LEAST, RATE = 20_261_127, 20_000, 4_000, 400.0
#: Each is killed so often.
TIMES = 2
SERVERS = ("kafka-1", "postgres", "redis", "triton")
BATCH = re.compile(
    r"baseOffset: (\d+) lastOffset: (\d+) .*producerId: (-?\d+) .*isTransactional: (\w+) isControl: (\w+)"
)
END = re.compile(r"endTxnMarker: (COMMIT|ABORT)")


class Supervisor:
    """Starts again what has ended, as Docker's `restart: unless-stopped` does."""

    def __init__(self, processes):
        self.processes, self.starts = processes, dict.fromkeys(processes, 0)
        self._ending, self._lock = threading.Event(), threading.Lock()
        self._thread = threading.Thread(target=self._watch)

    def _watch(self):
        while not self._ending.wait(0.2):
            for name, process in self.processes.items():
                with self._lock:
                    if process.ended() is not None:
                        process.kill()
                        process.start()
                        self.starts[name] += 1

    def kill(self, name):
        with self._lock:
            self.processes[name].signal(signal.SIGKILL)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ending.set()
        self._thread.join()


def in_the_files(stack, topic, partition):
    """Offsets of transactions' end markers, and of records that were aborted, as the log's own files have them."""
    home = stack.absolute_home / "kafka" / "1"
    files = sorted((home / "data" / f"{topic}-{partition}").glob("*.log"))
    command = java_command(
        "kafka.tools.DumpLogSegments", home, "--deep-iteration", "--files", ",".join(map(str, files))
    )
    told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    markers, aborted, open_ = set(), set(), {}
    for line in told.splitlines():
        if batch := BATCH.match(line):
            first, last, producer, transactional, control = batch.groups()
            span = set(range(int(first), int(last) + 1))
            if control == "true":
                markers |= span
            elif transactional == "true":
                open_.setdefault(producer, set()).update(span)
        elif (end := END.search(line)) is not None:
            ended = open_.pop(producer, set())
            aborted |= ended if end[1] == "ABORT" else set()
    assert markers
    return markers, aborted


def at_random(random_, supervisor, faults, killed):
    """Kill each process and each server `TIMES` times, in any order, while ticks come; who is away is left alone."""
    victims = [*supervisor.processes, *SERVERS] * TIMES
    random_.shuffle(victims)
    try:
        for name in victims:
            time.sleep(random_.uniform(0.3, 2.5))
            if name in supervisor.processes:
                supervisor.kill(name)
            else:
                with suppress(ServiceUnavailable, ProcessLookupError):
                    faults.kill(name)
    finally:
        killed.set()


def sending(stack, topic, killed):
    """Ticks at a steady rate until all was killed; a broker that is away is waited for."""
    records = open_source(f"simulate:regimes?seed=3&ticks={TICKS}&symbols=6").records()
    publisher, sent = TickPublisher(stack.kafka_bootstrap, topic), 0
    while (part := list(islice(records, 50))) and not (killed.is_set() and sent >= LEAST):
        with suppress(ServiceUnavailable):
            publisher.publish(plan(iter(part), Speed("constant", rate_hz=RATE)))
        sent += len(part)


@pytest.mark.long
def test_every_process_is_killed_at_random_and_the_trail_holds_what_kafka_holds(
    stack, exported, tmp_path, monkeypatch
):
    topics, faults, random_ = (
        SeriesTopics("kills", "kills.ticks"),
        ServerFaults(stack.absolute_home),
        random.Random(SEED),
    )
    create_topics(stack, topics.names)
    named = topics.topics.by_role()
    with ExitStack() as ended:
        database, again = (ended.enter_context(fresh_database(stack)) for _ in range(2))
        given = {
            **environment(topics), "postgres_url": database.postgres_url("forensics"),
            "owner_url": database.postgres_url("ultrathink"), "reader_url": database.postgres_url("reader"),
            "checkpoints": str(tmp_path / "trail"), "metrics_port": str(free_ports(1)[0]),
        }  # fmt: skip
        for name, value in given.items():
            monkeypatch.setenv(f"ULTRATHINK_FORENSICS_{name.upper()}", value)
        Control(stack.kafka_bootstrap, topics.control, stack.redis_url).apply(LIMITS, "a small desk", "test")
        processes = {
            "gateway": series_gateway(stack, topics, "one", execution="broker", **PATIENT),
            "forensics": OwnProcess(stack, ("forensics", "run"), "forensics-kills", {}),
            "broker": OwnProcess(
                stack, ("broker", "run"), "broker-kills",
                {"ULTRATHINK_BROKER_GROUP": "kills-broker", "ULTRATHINK_BROKER_ORDERS_TOPIC": topics.orders,
                 "ULTRATHINK_BROKER_FILLS_TOPIC": named["fills"], "ULTRATHINK_BROKER_CONTROL_TOPIC": topics.control},
            ),
            "data": OwnProcess(
                stack, ("data", "serve"), "data-kills",
                {"ULTRATHINK_DATA_TICKS_TOPIC": topics.ticks, "ULTRATHINK_DATA_ARCHIVE": str(tmp_path / "archive"),
                 "ULTRATHINK_DATA_POSTGRES_URL": database.postgres_url("reader"),
                 "ULTRATHINK_DATA_PORT": str(free_ports(1)[0])},
            ),
        }  # fmt: skip
        for process in processes.values():
            process.start()
            ended.callback(process.kill)
        processes["gateway"].wait_for_partitions()
        with Supervisor(processes) as supervisor:
            killed = threading.Event()
            killing = threading.Thread(target=at_random, args=(random_, supervisor, faults, killed))
            killing.start()
            sending(stack, topics.ticks, killed)
            killing.join()
            faults.wait_until_ready()
            ticks = sum(len(rows) for rows in of_topic(stack, topics.ticks).values())
            eventually(lambda: decided(stack, named) == ticks, 180)
        assert all(count >= TIMES for count in supervisor.starts.values()), supervisor.starts
        processes["gateway"].drain()
        for role in BY_ROLE:
            wanted = published(stack, topics, role)
            eventually(lambda role=role, wanted=wanted: recorded(given["reader_url"], named[role]) == wanted, 60)
        # The first, and the one that decided at the end: one that is killed while it begins has said nothing yet.
        assert 2 <= len(recorded(given["reader_url"], named["starts"])[0]) <= supervisor.starts["gateway"] + 1
        gaps = CLI.invoke(app, ["forensics", "gaps", "--json", "--each", str(tmp_path / "gaps.csv")])
        assert gaps.exit_code == 0, gaps.output
        check_gaps(stack, topics.decisions, tmp_path / "gaps.csv")
        replayed = CLI.invoke(app, ["forensics", "replay", "--json"])
        assert replayed.exit_code == 0, replayed.output[-3000:]
        assert sum(span["decisions"] for span in json.loads(replayed.stdout)["spans"]) == decided(stack, named)
        eventually(lambda: CLI.invoke(app, ["forensics", "verify"]).output.count("newest records") == 0, 60)
        verified = CLI.invoke(app, ["forensics", "verify"])
        assert verified.exit_code == 0, verified.output
        assert CLI.invoke(app, ["forensics", "alarms"]).output == "no alarms\n"
        processes["forensics"].drain()
        # Built again from Kafka alone, in an empty database: nothing is signed unless every root is as it was.
        monkeypatch.setenv("ULTRATHINK_FORENSICS_POSTGRES_URL", again.postgres_url("forensics"))
        monkeypatch.setenv("ULTRATHINK_FORENSICS_OWNER_URL", again.postgres_url("ultrathink"))
        monkeypatch.setenv("ULTRATHINK_FORENSICS_READER_URL", again.postgres_url("reader"))
        processes["forensics"].start()
        eventually(lambda: roots(again) == roots(database), 60)
        eventually(lambda: CLI.invoke(app, ["forensics", "verify"]).exit_code == 0, 60)
        processes["forensics"].drain()


def of_topic(stack, topic):
    return {
        p: [m.value() for chunk in read_to_end(stack.kafka_bootstrap, topic, p, 0) for m in chunk]
        for p in range(stack.partitions)
    }


def decided(stack, named):
    """Ticks that were decided, or are dead letters."""
    return sum(
        len(rows) for role in ("decisions", "dead_letters") for rows in of_topic(stack, named[role]).values()
    )


def roots(database):
    """Log -> size and root, as the database has them now."""
    try:
        with opened(database.postgres_url("reader")) as reader:
            last = {str(log.name): reader.batch_before(log.id, 2**62) for log in reader.logs()}
    except UltraThinkError:
        return {}
    return {name: (batch.to_size, batch.root) for name, batch in last.items() if batch is not None}


def check_gaps(stack, topic, path):
    """Each gap is what the log's own files say that it is."""
    found = {}
    for line in list(csv.reader(path.read_text().splitlines()))[1:]:
        found.setdefault((line[0], line[3]), set()).update(range(int(line[1]), int(line[2]) + 1))
    for partition in range(stack.partitions):
        markers, aborted = in_the_files(stack, topic, partition)
        log = f"{topic}[{partition}]"
        # Behind the last record that is on record there may be markers.
        end = max(found[log, "marker"])
        assert found[log, "marker"] >= {offset for offset in markers if offset <= end}
        assert found[log, "marker"] <= markers
        assert found.get((log, "aborted"), set()) == {offset for offset in aborted if offset <= end}
