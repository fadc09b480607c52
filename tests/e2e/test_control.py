"""Commands reach a running gateway by topic and by its admin endpoint; rubbish is found and sent again."""

from __future__ import annotations

import json
import threading
import time

import httpx
import pytest
from typer.testing import CliRunner

from connectors.kafka.client import Producer
from gateway.control.control import Control
from gateway.control.letter_box import LetterBox
from loadtest.open_loop.publisher import TickPublisher
from loadtest.open_loop.schedule import Speed, plan
from stack.chaos.feed import wait_until_decided
from stack.cli.main import app
from stack.processes.gateway import running_gateway
from tests.waiting import eventually
from trading.errors import ConfigurationError, ServiceUnavailable
from trading.history import open_source
from trading.risk.trading_state import TradingState

CLI = CliRunner()


def control(stack):
    return Control(stack.kafka_bootstrap, "gateway.control", stack.redis_url)


def url(stack, path):
    return f"http://127.0.0.1:{stack.ports.gateway_metrics}{path}"


@pytest.mark.usefixtures("exported")
def test_halt_resume_and_log_level_over_the_topic_and_the_admin_endpoint(stack):
    with running_gateway(stack):
        token = stack.secret("gateway-admin")

        def state():
            return httpx.get(url(stack, "/status")).json()["trading_state"]

        eventually(lambda: httpx.get(url(stack, "/readyz")).status_code == 200)
        assert state() == "active"
        try:
            control(stack).latch(TradingState.HALTED, "drill", "test")
            eventually(lambda: state() == "halted")
            assert CLI.invoke(app, ["gateway", "state", "--json"]).output.count("drill") == 1
            header = {"Authorization": f"Bearer {token}"}
            assert httpx.post(url(stack, "/commands/resume"), json={"reason": "x"}).status_code == 401
            assert httpx.post(url(stack, "/commands/resume"), headers=header, json={}).status_code == 422
            assert state() == "halted"
            done = httpx.post(
                url(stack, "/commands/resume"), headers=header, json={"reason": "drill over"}, timeout=20
            )
            assert done.json() == {"done": "active, latched in Kafka and Redis"}
            eventually(lambda: state() == "active")
        finally:
            control(stack).latch(TradingState.ACTIVE, "drill over", "test")
        assert CLI.invoke(app, ["gateway", "log-level", "warning", "--reason", "quiet"]).exit_code == 0
        eventually(lambda: httpx.get(url(stack, "/status")).json()["log_level"] == "warning")
        top = CLI.invoke(app, ["gateway", "top", "--once", "--every-s", "0.2"])
        assert "exactly-once" in top.output
        assert "publish" in top.output
        status = CLI.invoke(app, ["gateway", "status", "--json"])
        assert json.loads(status.output)["partitions"] == [0, 1, 2, 3]


@pytest.mark.slow
@pytest.mark.usefixtures("exported")
def test_a_drain_over_the_topic_ends_every_gateway_with_nothing_left_over(stack):
    with running_gateway(stack) as process:
        publisher = TickPublisher(stack.kafka_bootstrap, "market.ticks")
        published = publisher.publish(plan(open_source("simulate:calm?ticks=300").records(), Speed.parse("600/s")))
        ends = {}
        for partition, offset in published.intended_ns:
            ends[partition] = max(ends.get(partition, 0), offset + 1)
        assert wait_until_decided(stack, "gateway", "market.ticks", ends, 20.0)
        assert CLI.invoke(app, ["gateway", "drain", "--reason", "test"]).exit_code == 0
        eventually(lambda: process.ended() == 0, 30)
    with running_gateway(stack):  # and a restart does not drain again
        assert httpx.get(url(stack, "/healthz")).status_code == 200


def test_stopping_needs_one_of_the_two_latches_and_going_on_both(stack):
    nowhere = Control(stack.kafka_bootstrap, "gateway.control", "redis://127.0.0.1:1/0")
    reach = nowhere.latch(TradingState.REDUCING, "Redis is gone", "test")
    assert reach.arrived == ["Kafka"]
    assert "Redis" in reach.failures[0]
    with pytest.raises(ServiceUnavailable, match="not set to active"):
        nowhere.latch(TradingState.ACTIVE, "too early", "test")
    assert control(stack).effective().state is TradingState.REDUCING
    control(stack).latch(TradingState.ACTIVE, "test over", "test")
    assert control(stack).effective().state is TradingState.ACTIVE


@pytest.mark.usefixtures("exported")
def test_dead_letters_are_listed_shown_and_sent_again_once(stack):
    reason = "malformed"
    box = LetterBox(stack.kafka_bootstrap, "market.ticks.dlq")
    before = len(box.read(reason))
    producer = Producer({"bootstrap.servers": stack.kafka_bootstrap})
    producer.produce("market.ticks", b"again and again", b"K", partition=2)
    producer.flush(10)
    with running_gateway(stack):
        found = eventually(lambda: box.read(reason)[before:], 20.0)
        (letter,) = found
        assert letter.letter.payload == "again and again"
        shown = CLI.invoke(app, ["gateway", "dlq", "show", letter.place])
        assert "again and again" in shown.output
        sent = CLI.invoke(app, ["gateway", "dlq", "replay", letter.place, "--json"])
        assert json.loads(sent.output) == {"chosen": 1, "replayed_before": 0, "sent": 1, "expired": []}
        # It is no tick this time either, so it comes back as a letter of its own.
        again = eventually(lambda: box.read(reason)[before + 1 :], 20.0)
        assert again[0].place != letter.place
        assert box.find(letter.place).replayed
        twice = CLI.invoke(app, ["gateway", "dlq", "replay", letter.place, "--json"])
        assert json.loads(twice.output)["sent"] == 0
        # Another operator had chosen it before that, and sends now.
        assert box.replay([letter], "another").sent == 0
    # A gateway that was killed has left a transaction open there: a note behind that could not be seen yet.
    open_one = Producer({"bootstrap.servers": stack.kafka_bootstrap, "transactional.id": "left-open"})
    open_one.init_transactions(10)
    open_one.begin_transaction()
    open_one.produce("market.ticks.dlq", b"no letter", partition=2)
    assert open_one.flush(10) == 0
    ending = threading.Timer(1.0, open_one.abort_transaction, [10])
    ending.start()
    began = time.monotonic()
    assert box.replay([letter], "another").sent == 0
    assert time.monotonic() - began >= 0.9
    ending.join()
    listed = CLI.invoke(app, ["gateway", "dlq", "list", "--json"])
    assert any(line["reason"].startswith("JSON is malformed") for line in json.loads(listed.output))
    assert CLI.invoke(app, ["gateway", "dlq", "replay"]).exit_code != 0
    for nonsense in ("x", "2-99999999"):
        with pytest.raises(ConfigurationError, match="dlq list"):
            box.find(nonsense)


@pytest.mark.slow
@pytest.mark.usefixtures("exported")
def test_more_letters_than_wait_in_memory_are_sent_again_each_once(stack):
    producer = Producer({"bootstrap.servers": stack.kafka_bootstrap})
    for number in range(700):
        producer.produce("market.ticks", b"many %d" % number, b"K", partition=number % 4)
    assert producer.flush(20) == 0
    box = LetterBox(stack.kafka_bootstrap, "market.ticks.dlq")

    def mine():
        return [f for f in box.read("malformed") if f.letter.payload.startswith("many ")]

    with running_gateway(stack):
        found = eventually(lambda: all_of_them if len(all_of_them := mine()) >= 700 else None, 30.0)
        assert box.replay(found, "test").sent == 700
        eventually(lambda: len(mine()) == 1400, 30.0)
        assert box.replay(found, "test").sent == 0
