"""A whole desk on record: its processes are killed, and every decision is made again, verified and proven."""

from __future__ import annotations

import json
import signal
import time
from contextlib import ExitStack

import pytest
from typer.testing import CliRunner

from connectors.kafka.reading import read_to_end
from gateway.control.control import Control
from loadtest.open_loop.publisher import TickPublisher
from loadtest.open_loop.schedule import Speed, plan
from services.forensics.kinds import BY_ROLE
from services.forensics.source import to_record
from services.forensics.store.reading import opened
from services.forensics.store.reading import to_record as of_row
from stack.cli.main import app
from stack.processes.broker import running_broker
from stack.processes.forensics import running_forensics
from stack.processes.gateway import SeriesTopics, series_gateway
from stack.servers.kafka import create_topics
from stack.servers.ports import free_ports
from tests.databases import fresh_database
from tests.waiting import eventually
from trading.history import open_source
from trading.risk.limits import LimitsFile

CLI = CliRunner()
PATIENT = {"budget_ms": "86400000", "reserve_ms": "0", "shed_below_ms": "0"}
LIMITS = LimitsFile(defaults={"max_staleness_s": None, "max_drawdown": None, "max_order_notional": 4000.0})


@pytest.fixture
def series(stack, exported):
    topics = SeriesTopics("trail", "trail.ticks")
    create_topics(stack, topics.names)
    return topics


def environment(topics):
    """Where forensics finds this desk."""
    return {
        f"{role}_topic": name
        for role, name in topics.topics.by_role().items()
        if role in {*BY_ROLE, "checkpoints", "ticks"}
    }


def published(stack, topics, role):
    partitions = stack.partitions if role in {"decisions", "orders", "fills", "dead_letters"} else 1
    name = topics.topics.by_role()[role]
    return {
        p: [to_record(m) for chunk in read_to_end(stack.kafka_bootstrap, name, p, 0) for m in chunk]
        for p in range(partitions)
    }


def recorded(url, topic):
    with opened(url) as reader:
        logs = [row for row in reader.logs() if row.name.topic == topic]
        return {row.name.partition: [of_row(r) for r in reader.rows(row.kind, row.id, 0)] for row in logs}


@pytest.mark.slow
def test_killed_processes_leave_a_trail_that_is_whole_verified_and_replays(stack, series, tmp_path, monkeypatch):
    with fresh_database(stack) as database, ExitStack() as ended:
        given = {
            **environment(series), "postgres_url": database.postgres_url("forensics"),
            "owner_url": database.postgres_url("ultrathink"), "reader_url": database.postgres_url("reader"),
            "checkpoints": str(tmp_path / "trail"), "metrics_port": free_ports(1)[0],
        }  # fmt: skip
        for name, value in given.items():
            monkeypatch.setenv(f"ULTRATHINK_FORENSICS_{name.upper()}", str(value))
        Control(stack.kafka_bootstrap, series.control, stack.redis_url).apply(LIMITS, "a small desk", "test")
        forensics = ended.enter_context(running_forensics(stack, **given))
        ended.enter_context(
            running_broker(
                stack, group="trail-broker", orders_topic=series.orders, fills_topic=series.topics.fills,
                control_topic=series.control,
            )
        )  # fmt: skip
        gateway = series_gateway(stack, series, "one", execution="broker", **PATIENT)
        gateway.start()
        ended.callback(gateway.kill)
        gateway.wait_for_partitions()
        ticks = open_source("simulate:regimes?seed=11&ticks=3000&symbols=5").records()
        sent = TickPublisher(stack.kafka_bootstrap, series.ticks)
        records = plan(ticks, Speed("constant", rate_hz=600.0))
        for number in range(3):
            part = [record for _, record in zip(range(1000), records, strict=False)]
            sent.publish(iter(part))
            if number == 1:
                Control(stack.kafka_bootstrap, series.control, stack.redis_url).apply(
                    LimitsFile(defaults={**LIMITS.defaults, "max_order_notional": 3000.0}), "smaller", "test"
                )
            if number < 2:
                gateway.kill()
                forensics.kill()
                gateway.start()
                forensics.start()
                gateway.wait_for_partitions()
        eventually(lambda: sum(map(len, published(stack, series, "decisions").values())) == 3000)
        time.sleep(1.0)
        gateway.drain()
        topics = series.topics.by_role()
        for role in BY_ROLE:
            wanted = published(stack, series, role)
            eventually(lambda role=role, wanted=wanted: recorded(given["reader_url"], topics[role]) == wanted)
        replayed = CLI.invoke(app, ["forensics", "replay", "--json"])
        assert replayed.exit_code == 0, replayed.output
        spans = json.loads(replayed.output)["spans"]
        assert sum(span["decisions"] for span in spans) == 3000
        some = next(r for rows in recorded(given["reader_url"], series.decisions).values() for r in rows[-1:])
        name = json.loads(some.value)["decision_id"]
        one = CLI.invoke(app, ["forensics", "replay", name])
        assert "the same, byte for byte: 1 decisions made again" in one.output, one.output
        answered = CLI.invoke(app, ["forensics", "replay", name, "--ask"])
        assert "asked again for 1 decisions, answers: to the last bit" in answered.output, answered.output
        ordered = next(
            d for rows in recorded(given["reader_url"], series.decisions).values() for r in reversed(rows)
            if (d := json.loads(r.value))["action"] != "hold"
        )  # fmt: skip
        strict = tmp_path / "strict.yaml"
        strict.write_text("defaults: {max_staleness_s: null, max_order_notional: 1.0, lot: 0.001}\n")
        served = f"trading_decision/{ordered['model_version']}"
        for words, said in (
            (["--limits", str(strict)], "order_notional"),
            (["--model", served], served.replace("/", " ")),
        ):
            other = CLI.invoke(app, ["forensics", "what-if", ordered["decision_id"], *words])
            assert said in other.output, other.output
        told = json.loads(
            CLI.invoke(app, ["forensics", "what-if", ordered["decision_id"], "--model", served, "--json"]).output
        )
        assert told["what_if"]["quantity"] == told["recorded"]["quantity"] == ordered["quantity"]
        why = CLI.invoke(
            app, ["forensics", "explain", ordered["decision_id"], "--json", "--plot", str(tmp_path / "why.png")]
        )
        assert why.exit_code == 0, why.output
        reasons = json.loads(why.stdout)
        total = reasons["baseline_target"] + sum(one["value"] for one in reasons["contributions"])
        assert abs(total - ordered["target_position"]) <= 1e-6
        assert (tmp_path / "why.png").stat().st_size > 10_000
        reported = CLI.invoke(
            app, ["forensics", "report", "--from", "2024-01-01", "--out", str(tmp_path / "report"), "--json"]
        )
        assert reported.exit_code == 0, reported.output
        told = json.loads(reported.stdout)
        all_decided = [
            json.loads(r.value) for rows in recorded(given["reader_url"], series.decisions).values() for r in rows
        ]
        assert told["orders"] == sum(d["action"] != "hold" for d in all_decided)
        broken = [
            x
            for d in all_decided
            if d["verdict"] and d["verdict"]["outcome"] == "deny"
            for x in d["verdict"]["results"]
            if not x["passed"]
        ]
        assert told["rejections"] == len(broken)
        assert told["limit_changes"] == 2
        assert "What is asked of such a trail" in (tmp_path / "report" / "report.html").read_text()
        eventually(lambda: CLI.invoke(app, ["forensics", "verify"]).output.count("newest records") == 0)
        verified = CLI.invoke(app, ["forensics", "verify"])
        assert verified.exit_code == 0, verified.output
        proof = tmp_path / "proof.json"
        assert CLI.invoke(app, ["forensics", "prove", name, "--out", str(proof)]).exit_code == 0
        assert "it holds" in CLI.invoke(app, ["forensics", "check-proof", str(proof)]).output
        forensics.signal(signal.SIGTERM)
        eventually(lambda: forensics.ended() == 0)
        assert CLI.invoke(app, ["forensics", "alarms"]).output == "no alarms\n"
