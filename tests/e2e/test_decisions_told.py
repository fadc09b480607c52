"""`ultrathink decisions`: the last, one with its evidence, and those that come, from a real desk's topic."""

from __future__ import annotations

import json
import threading

import pytest
from typer.testing import CliRunner

from connectors.kafka.client import Producer
from stack.cli.main import app
from tests.e2e.test_whose_log import Desk

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("exported")]
CLI = CliRunner()
TICKS = 600


@pytest.fixture(scope="module")
def desk(stack, exported):
    one = Desk(stack)
    one.decide(TICKS)
    return one


@pytest.fixture(autouse=True)
def found_by_commands(desk, monkeypatch):
    monkeypatch.setenv("ULTRATHINK_HOME", str(desk.stack.home))
    monkeypatch.setenv("ULTRATHINK_GATEWAY_DECISIONS_TOPIC", desk.topics.decisions)


def told(*words):
    done = CLI.invoke(app, ["decisions", *words])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_the_last_are_listed_in_their_order_and_as_many_as_there_are(desk):
    rows = json.loads(told("list", "--last", "50", "--json"))
    assert len(rows) == 50
    assert [r["decided_at_ns"] for r in rows] == sorted(r["decided_at_ns"] for r in rows)
    everything = json.loads(told("list", "--last", "5000", "--json"))
    assert len({r["decision_id"] for r in everything}) == len(everything) == TICKS
    assert everything[-50:] == rows


def test_some_are_found_however_far_back_they_lie(desk):
    everything = json.loads(told("list", "--last", "5000", "--json"))
    cold = [r for r in everything if r["reason"] == "warming_up"]
    assert 0 < len(cold) < TICKS
    found = json.loads(told("list", "--last", "7", "--reason", "warming_up", "--json"))
    assert [r["decision_id"] for r in found] == [r["decision_id"] for r in cold[-7:]]
    symbol = everything[0]["symbol"]
    assert {r["symbol"] for r in json.loads(told("list", "--symbol", symbol, "--json"))} == {symbol}


def test_one_is_shown_by_the_id_that_the_list_gives(desk):
    last = told("list", "--last", "1").split()[-1]
    shown = told("show", last)
    assert "drawdown_20d" in shown
    assert json.loads(told("show", last, "--json"))["decision_id"] == last


def test_those_that_come_are_told_as_they_come(desk):
    lines = []
    thread = threading.Thread(target=lambda: lines.extend(told("tail", "--most", "20", "--json").splitlines()))
    thread.start()
    desk.decide(90, seed=2)
    thread.join(30)
    assert not thread.is_alive()
    assert len({json.loads(line)["decision_id"] for line in lines}) == 20


def test_what_cannot_be_read_is_counted_and_hides_nothing(desk):
    producer = Producer({"bootstrap.servers": desk.stack.kafka_bootstrap})
    for payload in (b'{"decision_id":"of a newer version"}', b"rubbish"):
        producer.produce(desk.topics.decisions, payload, partition=0)
    assert producer.flush(10) == 0
    done = CLI.invoke(app, ["decisions", "list", "--last", "3"])
    assert len(done.stdout.splitlines()) == 4
    assert "2 messages there are no decisions that this version can read" in " ".join(done.stderr.split())


def test_what_there_is_not_is_a_sentence(desk):
    for words, says in (
        (("list", "--reason", "mood"), "--reason 'mood': expected one of"),
        (("show", f"{desk.topics.ticks}-0-999999999"), "holds no decision"),
    ):
        done = CLI.invoke(app, ["decisions", *words])
        assert says in str(done.exception)
