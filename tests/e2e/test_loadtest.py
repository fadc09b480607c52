"""The driver on a real broker: against a desk whose delays are known, and against the real one."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from msgspec import structs

from connectors.kafka.client import Consumer, Producer, TopicPartition
from loadtest.errors import InvalidRun
from loadtest.judging.gates import judge
from loadtest.judging.targets import Target
from loadtest.open_loop.calls import ModelLoad, drive_model
from loadtest.open_loop.child_process import ends_of
from loadtest.open_loop.drive import Load, drive
from stack.processes.gateway import running_gateway
from stack.servers.kafka import create_topics
from stack.workflows.loadtest.load_target import place_of

TICKS, DECISIONS = "loadtest.ticks", "loadtest.decisions"
SOURCE = "simulate:regimes?seed=2&ticks=4000&symbols=4"
COMMAND = str(Path(sys.executable).parent / "ultrathink")


class Delaying:
    """A desk that only waits: each tick is answered after its own delay from when it was read.

    From the `stall_at`-th tick on it does nothing for `stall_s`, as a collector's pause would.
    """

    def __init__(self, bootstrap, delays_s, stall_at=None, stall_s=0.0):
        self.bootstrap, self.delays = bootstrap, delays_s
        self.stall_at, self.stall_s = stall_at, stall_s
        self.starts = ends_of(bootstrap, TICKS)
        self.stopping = threading.Event()
        #: What each tick was delayed by in fact, in seconds, in the order of reading.
        self.delayed = []
        self.thread = threading.Thread(target=self.run)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        self.thread.join()

    def run(self):
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": "delaying", "fetch.wait.max.ms": 5})
        consumer.assign([TopicPartition(TICKS, p, end) for p, end in self.starts.items()])
        producer = Producer({"bootstrap.servers": self.bootstrap, "linger.ms": 0})
        waiting, read = [], 0
        while not self.stopping.is_set() or waiting:
            message = consumer.poll(0 if waiting else 0.01)
            if message is not None and message.error() is None:
                read += 1
                if read == self.stall_at:
                    time.sleep(self.stall_s)
                due = time.monotonic() + self.delays[(read - 1) % len(self.delays)]
                waiting.append((due, message.partition(), message.offset(), read - 1, time.monotonic()))
                self.delayed.append(0.0)
            now = time.monotonic()
            for row in [w for w in waiting if w[0] <= now]:
                waiting.remove(row)
                body = f'{{"decision_id":"{TICKS}-{row[1]}-{row[2]}","reason":"target"}}'
                self.delayed[row[3]] = time.monotonic() - row[4]
                producer.produce(DECISIONS, body.encode(), partition=row[1])
                producer.poll(0)
            if message is None:
                time.sleep(0.0005)
        producer.flush()
        consumer.close()


@pytest.fixture(scope="module")
def topics(stack):
    create_topics(stack, {TICKS: "market.ticks", DECISIONS: "trading.decisions"})
    return stack.kafka_bootstrap


def load_of(bootstrap, speed, **given):
    return Load(bootstrap, SOURCE, speed, ticks_topic=TICKS, decisions_topic=DECISIONS, **given)


@pytest.mark.slow
def test_a_known_distribution_is_recovered_through_a_real_broker(topics):
    """Delays of 1 to 3 s, so that the broker's own milliseconds are less than 2 %, also on a busy machine."""
    delays = np.random.default_rng(4).lognormal(np.log(1.5), 0.2, 2000).clip(1.0, 3.0)
    with Delaying(topics, delays) as desk:
        found = drive(load_of(topics, "100/s", limit=800, warm_up_s=1.0))
    assert (found.planned, found.missing, found.repeated) == (700, 0, 0)
    for q, measured in ((50, found.latency.p50), (95, found.latency.p95), (99, found.latency.p99)):
        # By the desk's own clock: when it was late to answer, that was its delay.
        known = 1e3 * np.percentile(desk.delayed[100:800], q)
        assert known == pytest.approx(1e3 * np.percentile(delays[100:800], q), rel=0.1)
        assert measured == pytest.approx(known, rel=0.02), q
    assert found.offered_per_s == pytest.approx(100, rel=0.01)


@pytest.mark.slow
def test_a_stall_is_seen_by_every_tick_that_was_meant_for_it(topics):
    with Delaying(topics, [0.002], stall_at=600, stall_s=0.5):
        found = drive(load_of(topics, "200/s", limit=1600, warm_up_s=1.0))
    # A hundred of 1,400 ticks fell into the half second: 4 % waited at least 220 ms. A caller that waits for each
    # answer would have had one slow call in 1,400, and a p99 of a few milliseconds.
    assert found.latency.max >= 480
    assert found.latency.p95 >= 150
    assert judge(found, Target(p99_ms=100, max_lag_ms=100)).verdict == "missed"


@pytest.mark.slow
def test_a_desk_that_answers_nothing_is_no_quick_desk(topics):
    found = judge(drive(load_of(topics, "200/s", limit=600, warm_up_s=1.0, quiet_s=1.0)), Target(p50_ms=50))
    assert (found.verdict, found.missing, found.answered) == ("invalid", 400, 0)


@pytest.mark.slow
def test_somebody_else_who_sends_makes_the_run_invalid(topics):
    def disturb():
        time.sleep(3.0)
        producer = Producer({"bootstrap.servers": topics})
        producer.produce(TICKS, b"{}", partition=0)
        producer.flush()

    other = threading.Thread(target=disturb)
    other.start()
    with Delaying(topics, [0.001]), pytest.raises(InvalidRun, match="somebody else sends"):
        drive(load_of(topics, "200/s", limit=1200, warm_up_s=1.0, quiet_s=2.0))
    other.join()


def test_a_topic_that_is_missing_is_a_sentence(topics):
    wrong = structs.replace(load_of(topics, "200/s", limit=600), ticks_topic="nosuch")
    with pytest.raises(InvalidRun, match="topic nosuch does not exist"):
        drive(wrong)


@pytest.mark.slow
def test_calls_of_triton_are_counted_from_their_intended_times(stack, exported):
    found = drive_model(ModelLoad(stack.triton_grpc, speed="poisson:100/s", duration_s=6.0, warm_up_s=1.0))
    assert found.planned == found.answered == found.latency.count > 300
    assert found.errors == {}
    assert found.latency.p50 >= found.service.p50


@pytest.fixture(scope="module")
def deciding(stack, exported):
    with running_gateway(stack, budget_ms=60_000):
        yield stack


def ultrathink(*arguments, home):
    return subprocess.run(
        [COMMAND, "--home", str(home), "loadtest", *arguments],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


#: A desk of any speed passes; what is judged is that everything came, once.
EASY = "version: 1\ntargets: {decision: {min_samples: 200, max_error_ratio: 0.0}}\n"


def test_the_command_loads_the_desk_and_writes_its_files(deciding, tmp_path):
    targets = tmp_path / "t.yaml"
    targets.write_text(EASY)
    out = tmp_path / "out"
    done = ultrathink(
        *("kafka", "--data", SOURCE, "--speed", "poisson:100/s", "--duration", "6s", "--warm-up", "2", "--json"),
        *("--targets", str(targets), "--out", str(out)), home=deciding.home,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert (found["missing"], found["repeated"], found["verdict"]) == (0, 0, "held")
    assert {s["name"] for s in found["servers"]} >= {"gateway", "triton", "kafka-1", "generator"}
    assert sorted(p.name for p in out.iterdir()) == ["junit.xml", "report.html", "result.json", "summary.md"]
    # Judged anew by what nothing can keep: the same files, another verdict.
    targets.write_text("version: 1\ntargets: {decision: {p50_ms: 0.001}}\n")
    again = ultrathink(
        "report", str(out / "result.json"), "--target", "decision", "--targets", str(targets), "--out", str(out),
        home=deciding.home,
    )  # fmt: skip
    assert again.returncode == 1, again.stderr
    assert "missed" in again.stdout


@pytest.mark.long
def test_a_short_soak_judges_growth_too(deciding, tmp_path):
    targets = tmp_path / "t.yaml"
    targets.write_text(EASY)
    done = ultrathink(
        *("soak", "--data", SOURCE, "--speed", "100/s", "--duration", "22s", "--warm-up", "6", "--json"),
        *("--targets", str(targets), "--out", str(tmp_path / "out")), home=deciding.home,
    )  # fmt: skip
    found = json.loads(done.stdout)
    named = {c["name"]: c for c in found["checks"]}
    assert {"p50: growth over the run", "p99: growth over the run"} <= set(named)
    # Half a minute says something about memory; about latency on a busy machine it may not, and then says so.
    for name in ("gateway", "triton", "generator", "reader"):
        assert named[f"memory of {name}: growth over the run"]["measured"] is not None, named
    assert named["memory of gateway: growth over the run"]["verdict"] == "held", named
    assert found["missing"] == 0
    assert done.returncode == {"held": 0, "missed": 1, "invalid": 2}[found["verdict"]], done.stderr


@pytest.mark.long
def test_capacity_finds_a_limit_between_its_bounds(deciding, tmp_path):
    targets = tmp_path / "t.yaml"
    targets.write_text(EASY)
    done = ultrathink(
        *("capacity", "--low", "100", "--high", "200", "--duration", "4s", "--warm-up", "1", "--confirmations", "1"),
        *("--targets", str(targets), "--out", str(tmp_path / "out"), "--json", "--data", SOURCE), home=deciding.home,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert (found["limit"], found["bound"]) == (200, "asked")
    assert [t["rate"] for t in found["trials"]] == [100, 200, 200]
    assert (tmp_path / "out" / "capacity.json").is_file()


def test_a_place_knows_its_servers(deciding):
    assert set(place_of(deciding).servers) >= {"kafka-1", "triton", "gateway"}
