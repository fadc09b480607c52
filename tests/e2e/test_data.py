"""The data service beside a desk that decides: what it answers is what the gateway saw, whatever falls."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack

import numpy as np
import psutil
import pytest
from typer.testing import CliRunner

from connectors.kafka.admin import admin_client
from connectors.kafka.client import TopicPartition
from connectors.kafka.reading import read_to_end
from connectors.kafka.watermarks import bounds
from gateway.control.control import Control
from loadtest.open_loop.publisher import TickPublisher
from loadtest.open_loop.schedule import Speed, plan
from services.data.client import DataClient
from services.data.errors import Forbidden, NotFound, Refused, Unauthorized, Unavailable
from services.forensics.kinds import BY_ROLE
from stack.cli.main import app
from stack.processes.data import DataProcess, running_data
from stack.processes.forensics import running_forensics
from stack.processes.gateway import SeriesTopics, series_gateway
from stack.processes.settings import DATA_TOKEN
from stack.servers.kafka import create_topics
from stack.servers.ports import free_ports
from stack.supervision.status import read_status
from tests.databases import fresh_database
from tests.paths import ROOT
from tests.waiting import eventually
from trading.decision.schema import Decision
from trading.decision.wire import decode_decision, place
from trading.history import open_source
from trading.history.archive import read_head
from trading.risk.limits import LimitsFile

CLI = CliRunner()
PATIENT = {"budget_ms": "86400000", "reserve_ms": "0", "shed_below_ms": "0"}
LIMITS = LimitsFile(defaults={"max_staleness_s": None, "max_drawdown": None, "max_order_notional": 4000.0})
STRICT = "defaults: {max_staleness_s: null, max_order_notional: 1.0, lot: 0.001}\n"
COUNT = 6500


@pytest.fixture(scope="module")
def desk(stack, exported, tmp_path_factory):
    """A gateway, forensics and a data service on topics of their own, and what was decided."""
    folder, topics = tmp_path_factory.mktemp("data"), SeriesTopics("answers", "answers.ticks")
    create_topics(stack, topics.names)
    named = {
        f"{role}_topic": name
        for role, name in topics.topics.by_role().items()
        if role in {*BY_ROLE, "checkpoints", "ticks"}
    }
    with fresh_database(stack) as database, ExitStack() as ended, pytest.MonkeyPatch.context() as patch:
        forensics = {
            **named, "postgres_url": database.postgres_url("forensics"), "owner_url": database.postgres_url("ultrathink"),
            "reader_url": database.postgres_url("reader"), "checkpoints": str(folder / "trail"),
            "metrics_port": free_ports(1)[0],
        }  # fmt: skip
        for name, value in forensics.items():
            patch.setenv(f"ULTRATHINK_FORENSICS_{name.upper()}", str(value))
        given = {
            "postgres_url": database.postgres_url("reader"), "ticks_topic": topics.ticks, "archive": str(folder / "archive"),
            "flush_s": "2", "memory_rows": "1000",
        }  # fmt: skip
        Control(stack.kafka_bootstrap, topics.control, stack.redis_url).apply(LIMITS, "a small desk", "test")
        ended.enter_context(running_forensics(stack, **forensics))
        process = ended.enter_context(running_data(stack, **given))
        gateway = series_gateway(stack, topics, "one", **PATIENT)
        gateway.start()
        ended.callback(gateway.kill)
        gateway.wait_for_partitions()
        ticks = open_source(f"simulate:regimes?seed=7&ticks={COUNT}&symbols=4").records()
        TickPublisher(stack.kafka_bootstrap, topics.ticks).publish(plan(ticks, Speed("constant", rate_hz=1500.0)))
        client = ended.enter_context(DataClient(process.address, stack.secret(DATA_TOKEN)))
        eventually(lambda: sum(client.health()["positions"].values()) >= COUNT)
        eventually(lambda: len(decided(stack, topics)) == COUNT)
        eventually(lambda: sum(1 for _ in client.decisions(since=SINCE, limit=5000)) == COUNT)
        yield Answers(stack, topics, process, client, decided(stack, topics), folder / "archive", given)


SINCE = "2024-01-01"


class Answers:
    def __init__(self, stack, topics, process, client, decisions, archive, given):
        self.stack, self.topics, self.process, self.client = stack, topics, process, client
        self.decisions, self.archive, self.given = decisions, archive, given


def decided(stack, topics) -> dict[str, Decision]:
    found = {}
    for partition in range(stack.partitions):
        for chunk in read_to_end(stack.kafka_bootstrap, topics.decisions, partition, 0):
            for message in chunk:
                one = decode_decision(message.value())
                found[one.decision_id] = one
    return found


def test_features_are_byte_for_byte_what_the_gateway_decided_by(desk):
    asked = []
    some = list(desk.decisions.values())[::3]
    for one in some:
        partition, offset = place(one.decision_id)
        asked.append({"symbol": one.symbol, "offset": offset, "partition": partition})
    found = []
    for k in range(0, len(asked), 1000):
        found += desk.client.feature_batch(asked[k : k + 1000])
    warm = 0
    for one, vector in zip(some, found, strict=True):
        assert vector.offset == place(one.decision_id)[1]
        assert (vector.values is None) == (not one.warm)
        if one.warm:
            warm += 1
            assert vector.values.tobytes() == np.array(one.features, np.float32).tobytes()
    assert warm > len(some) / 2
    assert any((desk.archive / "chunks").iterdir())


def test_what_is_listed_is_what_was_decided(desk):
    listed = {row["decision_id"]: row for row in desk.client.decisions(since=SINCE, limit=300)}
    assert listed.keys() == desk.decisions.keys()
    some = next(one for one in desk.decisions.values() if one.action != "hold")
    row = listed[some.decision_id]
    assert (row["quantity"], row["symbol"], row["outcome"]) == (some.quantity, some.symbol, some.verdict.outcome)
    mine = [one for one in desk.decisions.values() if one.symbol == some.symbol and one.action == some.action]
    chosen = list(desk.client.decisions(since=SINCE, symbol=some.symbol, action=some.action.value))
    assert {row["decision_id"] for row in chosen} == {one.decision_id for one in mine}
    table = desk.client.decisions_table(since=SINCE, limit=100)
    assert table.num_rows == 100
    lived = list(desk.client.ticks(some.symbol, limit=200))
    assert len(lived) == sum(one.symbol == some.symbol for one in desk.decisions.values())


def test_positions_and_profit_are_those_of_the_decisions(desk):
    by_symbol = {}
    for one in sorted(desk.decisions.values(), key=lambda d: place(d.decision_id)):
        by_symbol.setdefault(one.symbol, []).append(one)
    positions = {row["symbol"]: row for row in desk.client.positions()}
    profits = {row["symbol"]: row for row in desk.client.pnl(since=SINCE)}
    for symbol, mine in by_symbol.items():
        assert positions[symbol]["position"] == mine[-1].position_after
        marked = [one for one in mine if one.mid_price is not None]
        cash = -sum(one.quantity * one.reference_price for one in marked if one.action != "hold")
        value = marked[-1].position_after * marked[-1].mid_price - marked[0].position_before * marked[0].mid_price
        assert profits[symbol]["profit"] == pytest.approx(cash + value, rel=1e-9, abs=1e-6)
        assert profits[symbol]["orders"] == sum(one.action != "hold" for one in marked)
    regimes = {row["symbol"]: row for row in desk.client.regimes()}
    newest = by_symbol[next(iter(by_symbol))][-1]
    assert list(regimes[newest.symbol]["probabilities"].values()) == pytest.approx(newest.regime_probabilities)
    assert desk.client.models()["deciding"][0]["model"] == newest.model_name
    assert desk.client.limits()["limits"]["defaults"]["max_order_notional"] == 4000.0


def test_a_decision_is_proven_made_again_and_made_otherwise(desk, tmp_path):
    some = [one for one in desk.decisions.values() if one.action != "hold"][-1]

    def proven():
        return desk.client.decision(some.decision_id)["proof"]

    eventually(lambda: proven() is not None)
    told = desk.client.decision(some.decision_id)
    assert told["decision"]["quantity"] == some.quantity
    (tmp_path / "proof.json").write_text(json.dumps(proven()))
    checked = CLI.invoke(app, ["forensics", "check-proof", str(tmp_path / "proof.json")])
    assert checked.exit_code == 0, checked.output
    heard = []
    assert desk.client.replay(some.decision_id, lambda n, of: heard.append((n, of)))["verdict"] == "same"
    assert desk.client.decision(some.decision_id)["replay"]["verdict"] == "same"
    other = desk.client.what_if(some.decision_id, limits=STRICT)
    assert other["recorded"]["quantity"] == some.quantity
    assert other["what_if"]["quantity"] != some.quantity
    simulated = desk.client.simulate(STRICT)
    assert simulated["ticks"] == COUNT
    assert simulated["changed"] > 0
    with pytest.raises(Refused, match="refused, 1 error"):
        desk.client.simulate("defaults: {max_order_notionl: 1}")
    with pytest.raises(Refused, match="is not on record|no decision"):
        desk.client.what_if(f"{desk.topics.ticks}-0-999999", limits=STRICT)


def test_training_reads_what_was_lived(desk):
    eventually(lambda: sum(1 for _ in open_source(f"archive:{desk.archive}").records()) == COUNT)
    lived = [record.tick for record in open_source(f"archive:{desk.archive}").records()]
    told = [record.tick for record in open_source(f"simulate:regimes?seed=7&ticks={COUNT}&symbols=4").records()]
    assert sorted(lived, key=lambda t: (t.symbol, t.event_time_ns)) == sorted(
        told, key=lambda t: (t.symbol, t.event_time_ns)
    )
    built = CLI.invoke(
        app, ["data", "build", f"archive:{desk.archive}", "--out", str(desk.archive.parent / "set"), "--json"]
    )
    assert built.exit_code == 0, built.output
    assert json.loads(built.output)["ticks"] == COUNT


def test_who_may_not_ask_is_told(desk):
    with DataClient(desk.process.address) as nobody, pytest.raises(Unauthorized, match="ultrathink data token"):
        nobody.symbols()
    made = CLI.invoke(app, ["data", "token", "narrow", "--scope", "market", "--json"])
    token = json.loads(made.output)["token"]
    assert token not in (desk.stack.absolute_home / "secrets" / "data-tokens.json").read_text()
    time.sleep(1.2)
    with DataClient(desk.process.address, token) as narrow:
        assert len(narrow.symbols()) == 4
        with pytest.raises(Forbidden, match="no scope decisions"):
            narrow.positions()
        assert CLI.invoke(app, ["data", "token", "narrow", "--take-back"]).exit_code == 0
        time.sleep(1.2)
        with pytest.raises(Unauthorized):
            narrow.symbols()
    with pytest.raises(NotFound):
        desk.client.features("NOPE")


def test_tails_tell_what_comes(desk):
    symbol = desk.client.symbols()[0]["symbol"]
    heard = {"ticks": [], "decisions": []}

    def listen(name, tail):
        for item in tail:
            heard[name].append(item)
            if len(heard[name]) >= 5:
                return

    threads = [
        threading.Thread(target=listen, args=("ticks", desk.client.tail_ticks(symbol)), daemon=True),
        threading.Thread(target=listen, args=("decisions", desk.client.tail_decisions()), daemon=True),
    ]
    for thread in threads:
        thread.start()
    time.sleep(1.0)
    ticks = open_source("simulate:regimes?seed=8&ticks=200&symbols=4").records()
    TickPublisher(desk.stack.kafka_bootstrap, desk.topics.ticks).publish(
        plan(ticks, Speed("constant", rate_hz=200.0))
    )
    for thread in threads:
        thread.join(30)
    assert len(heard["ticks"]) == len(heard["decisions"]) == 5
    assert {item["symbol"] for item in heard["ticks"]} == {symbol}


@pytest.mark.slow
def test_locusts_user_is_answered_and_judged(desk, tmp_path):
    targets, out = tmp_path / "targets.yaml", tmp_path / "out"
    targets.write_text('version: 1\ntargets: {"data-service": {min_samples: 20, max_error_ratio: 0.0}}\n')
    command = [
        *(
            sys.executable,
            "-m",
            "locust",
            "-f",
            str(ROOT / "loadtest" / "locustfile.py"),
            "--headless",
            "--only-summary",
        ),
        *("-u", "2", "-r", "2", "-t", "5s", "--warm-up", "1", "--tags", "data", "--results", str(out)),
        *("--data-service", desk.process.address, "--targets", str(targets)),
    ]
    token = desk.stack.secret(DATA_TOKEN)
    for given, code in ((token, 0), ("wrong", 1)):
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=60, cwd=ROOT,
            env={**os.environ, "ULTRATHINK_DATA_TOKEN": given},
        )  # fmt: skip
        said = done.stdout + done.stderr
        assert "Traceback" not in said, said
        assert given not in said
        assert (done.returncode != 0) == (code != 0), said
        if code == 0:
            told = json.loads((out / "result.json").read_text())
            assert (told["target"], told["verdict"], told["errors"]) == ("data-service", "held", {})


@pytest.mark.slow
def test_servers_fall_and_what_does_not_need_them_answers(desk):
    symbol = desk.client.symbols()[0]["symbol"]
    before = desk.client.features(
        symbol, offset=place(next(n for n, d in desk.decisions.items() if d.symbol == symbol))[1]
    )

    def pid(name):
        found = [
            one.process
            for one in read_status(desk.stack.absolute_home).services
            if one.name == name and one.process
        ]
        return found[0].pid if found else None

    killed = pid("redis")
    os.kill(killed, signal.SIGKILL)
    again = desk.client.features(symbol, offset=before.offset)
    assert (again.offset, again.reason) == (before.offset, before.reason)
    eventually(lambda: pid("redis") not in {killed, None})
    server = psutil.Process(pid("postgres"))
    # One that hangs is worse than one that is gone.
    stopped = [server, *server.children(recursive=True)]
    for one in stopped:
        one.suspend()
    try:
        assert desk.client.features(symbol).offset is not None
        with pytest.raises(Unavailable, match="PostgreSQL"):
            list(desk.client.decisions(since=SINCE, reason="target"))
        assert desk.client.features(symbol, offset=before.offset).offset == before.offset

        def parts():
            return {part["name"]: part["ok"] for part in desk.client.health()["parts"]}

        eventually(lambda: parts() == {"ticks": True, "history": True, "postgresql": False})
    finally:
        for one in stopped:
            one.resume()
    eventually(lambda: len(list(desk.client.decisions(since=SINCE, reason="target", limit=5000))) > 0)


@pytest.mark.slow
def test_a_kill_loses_and_repeats_nothing(desk, tmp_path):
    given = {**desk.given, "archive": str(tmp_path / "archive"), "flush_s": "0.2", "port": str(free_ports(1)[0])}
    environment = {f"ULTRATHINK_DATA_{name.upper()}": value for name, value in given.items()}
    process = DataProcess(desk.stack, environment)
    process.address = f"http://127.0.0.1:{given['port']}"
    for wait_s in (0.0, 0.3, 0.6, 1.0):
        process.start()
        process.wait()
        time.sleep(wait_s)
        process.kill()
    process.start()
    process.wait()
    with DataClient(process.address, desk.stack.secret(DATA_TOKEN)) as client:
        eventually(
            lambda: sum(client.health()["positions"].values()) == sum(desk.client.health()["positions"].values())
        )
    process.drain()
    lived = [record.tick for record in open_source(f"archive:{tmp_path / 'archive'}").records()]
    wanted = [t for symbol in desk.client.symbols() for t in desk.client.ticks(symbol["symbol"], limit=5000)]
    assert len(lived) == len(wanted)
    assert sorted((t.symbol, t.event_time_ns) for t in lived) == sorted(
        (t["symbol"], t["event_time_ns"]) for t in wanted
    )


def test_what_kafka_no_longer_holds_is_replayed_from_the_archive(desk, monkeypatch):
    """The last one: it deletes."""
    monkeypatch.setenv("ULTRATHINK_FORENSICS_TICKS_ARCHIVE", str(desk.archive))
    # Of the log itself: what an earlier test has sent may not be read yet.
    ends = {p: bounds(desk.stack.kafka_bootstrap, desk.topics.ticks, p)[1] for p in range(desk.stack.partitions)}
    eventually(lambda: {p: one.next_offset for p, one in read_head(desk.archive).partitions.items()} == ends)
    places = [TopicPartition(desk.topics.ticks, p, end * 2 // 3) for p, end in ends.items()]
    admin = admin_client(desk.stack.kafka_bootstrap)
    for future in admin.delete_records(places).values():
        future.result(10)
    replayed = CLI.invoke(app, ["forensics", "replay", "--json"])
    assert replayed.exit_code == 0, replayed.output
    assert sum(span["decisions"] for span in json.loads(replayed.output)["spans"]) >= COUNT
    monkeypatch.setenv("ULTRATHINK_FORENSICS_TICKS_ARCHIVE", str(desk.archive / "nowhere"))
    refused = CLI.invoke(app, ["forensics", "replay"])
    assert "what a replay begins with is gone" in str(refused.exception)
