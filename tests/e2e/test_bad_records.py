"""What nobody should have written, on the real servers: it is left aside, counted, and stops nothing but trading."""

from __future__ import annotations

import json
import threading
import time

import httpx
import pytest
from typer.testing import CliRunner

from connectors.kafka.client import Producer
from connectors.redis import connect
from gateway.control import redis_latch
from gateway.control.control import Control
from gateway.control.letter_box import LetterBox
from gateway.control.topic import send, told
from stack.cli.main import app
from stack.processes.gateway import running_gateway
from stack.processes.own import running
from tests.e2e.test_control import control, url
from tests.e2e.test_whose_log import Desk
from tests.waiting import eventually
from trading.encoding import encode
from trading.errors import ConfigurationError, ServiceUnavailable
from trading.events import Command
from trading.risk.limits import LimitsFile
from trading.risk.trading_state import TradingState

CLI = CliRunner()
NEWER = '{"defaults":{"max_sector_notional":7}}'
UNHEARD = (b"\xff\xfe", b'{"kind":7}', b"[" * 10_000, b"rubbish", b"")


def produce(stack, topic, *payloads, key=None):
    producer = Producer({"bootstrap.servers": stack.kafka_bootstrap})
    for payload in payloads:
        producer.produce(topic, payload, key, partition=0)
    assert producer.flush(10) == 0


def status(stack):
    return httpx.get(url(stack, "/status")).json()


def bad_records(stack, topic):
    lines = httpx.get(url(stack, "/metrics")).text.splitlines()
    found = [line for line in lines if line.startswith(f'gateway_bad_records_total{{topic="{topic}"}}')]
    return float(found[0].rpartition(" ")[2]) if found else 0.0


@pytest.fixture
def active(stack):
    yield control(stack)
    control(stack).latch(TradingState.ACTIVE, "test over", "test")


@pytest.mark.slow
@pytest.mark.usefixtures("exported")
def test_after_records_that_are_no_commands_a_gateway_still_hears(stack, active):
    wrong_level = encode(Command("log_level", "trace", "x", "test", 1))
    with running_gateway(stack):
        before = bad_records(stack, "control")
        produce(stack, "gateway.control", *UNHEARD, wrong_level)
        eventually(lambda: bad_records(stack, "control") == before + len(UNHEARD) + 1)
        assert httpx.get(url(stack, "/healthz")).status_code == 200
        active.latch(TradingState.HALTED, "still heard", "test")
        eventually(lambda: status(stack)["trading_state"] == "halted")
    with running_gateway(stack):  # and they do not keep the next one from starting
        assert status(stack)["trading_state"] == "halted"


@pytest.mark.slow
@pytest.mark.usefixtures("exported")
def test_a_command_of_a_newer_version_reduces_until_a_human_resumes(stack, active):
    with running_gateway(stack):
        produce(stack, "gateway.control", b'{"kind":"rebalance","value":"x","reason":"","by":"","at_ns":1}')
        eventually(lambda: status(stack)["trading_state"] == "reducing")
        assert "does not understand" in CLI.invoke(app, ["gateway", "state"]).output
        active.latch(TradingState.ACTIVE, "looked", "test")
        eventually(lambda: status(stack)["trading_state"] == "active")


@pytest.mark.slow
@pytest.mark.usefixtures("exported")
def test_limits_of_a_newer_version_reduce_a_gateway_and_keep_another_from_starting(stack, tmp_path, monkeypatch):
    """On topics of its own: a rebuild that finds such limits in its past latches the drawdown, also for others."""
    desk = Desk(stack)
    topic = desk.topics.control
    monkeypatch.setenv("ULTRATHINK_GATEWAY_CONTROL_TOPIC", topic)
    with running(desk.gateway()) as process:
        process.wait_for_partitions()
        here = f"http://127.0.0.1:{process.port}"
        eventually(lambda: httpx.get(f"{here}/readyz").status_code == 200)
        send(stack.kafka_bootstrap, topic, told("limits", NEWER, "new desk", "Ada"))
        eventually(lambda: httpx.get(f"{here}/status").json()["trading_state"] == "reducing")
        problems = " ".join(httpx.get(f"{here}/readyz").json()["problems"])
        assert "max_sector_notional" in problems
        assert "format version None; this gateway reads 1" in problems
    assert CLI.invoke(app, ["gateway", "state", "--json"]).output.count("max_sector_notional") == 1
    with pytest.raises(ServiceUnavailable, match="max_sector_notional"), running(desk.gateway()) as process:
        process.wait_for_partitions()
    shown = CLI.invoke(app, ["risk", "limits", "show"])
    assert isinstance(shown.exception, ConfigurationError)
    assert "by Ada" in str(shown.exception)
    good = tmp_path / "good.yaml"
    good.write_text("defaults: {max_order_notional: 40000}")
    done = CLI.invoke(app, ["risk", "limits", "apply", str(good), "--reason", "ours"])
    assert done.exit_code == 0, done.exception
    with running(desk.gateway()) as process:
        process.wait_for_partitions()
        assert httpx.get(f"http://127.0.0.1:{process.port}/status").json()["trading_state"] == "active"


def test_limits_that_no_record_holds_are_refused_in_words(stack):
    symbols = {f"SYMBOL{k:05}": {"max_order_notional": 1000.0 + k, "lot": 0.25} for k in range(20_000)}
    before = control(stack).limits()
    with pytest.raises(ConfigurationError, match=r"the limits are 1,\d{3},\d{3} bytes"):
        control(stack).apply(LimitsFile(symbols=symbols), "too many", "test")
    assert control(stack).limits() == before


def test_a_reason_that_is_no_text_stops_nothing(stack, active):
    done = CLI.invoke(app, ["gateway", "kill", "--reason", "feed \udcff broke"])
    assert done.exit_code == 0, done.exception
    found = active.effective()
    assert (found.state, found.reason) == (TradingState.KILLED, "feed \\udcff broke")
    assert redis_latch.read(connect(stack.redis_url)).state is TradingState.KILLED


@pytest.mark.slow
@pytest.mark.parametrize("where", ["Redis alone", "the log alone"])
def test_a_resume_that_fails_lifts_nothing_not_even_for_a_moment(stack, active, where):
    client = connect(stack.redis_url)
    if where == "Redis alone":
        redis_latch.write(client, TradingState.HALTED, "drill", "test")
    else:
        active.command("trading_state", "halted", "drill", "test")
    half = Control("127.0.0.1:1", "gateway.control", stack.redis_url)
    seen, done = set(), threading.Event()

    def look():
        while not done.is_set():
            seen.add(redis_latch.read(client).state)
            time.sleep(0.002)

    looking = threading.Thread(target=look)
    before = redis_latch.read(client).state
    looking.start()
    try:
        with pytest.raises(ServiceUnavailable, match="not set to active"):
            half.latch(TradingState.ACTIVE, "too early", "test")
    finally:
        done.set()
        looking.join()
    assert seen == {before}
    assert active.effective().state is TradingState.HALTED


@pytest.mark.slow
@pytest.mark.usefixtures("exported")
def test_a_producers_key_is_no_note_of_ours(stack):
    box = LetterBox(stack.kafka_bootstrap, "market.ticks.dlq")
    produce(stack, "market.ticks", b"of a producer", key=b"replayed")
    with running_gateway(stack):
        letter = eventually(lambda: [f for f in box.read() if f.letter.payload == "of a producer"], 20.0)[0]
        listed = CLI.invoke(app, ["gateway", "dlq", "list", "--each", "--json"])
        assert "of a producer" in listed.output
        assert "of a producer" in CLI.invoke(app, ["gateway", "dlq", "show", letter.place]).output
        sent = CLI.invoke(app, ["gateway", "dlq", "replay", letter.place, "--json"])
        assert json.loads(sent.output)["sent"] == 1
        assert box.find(letter.place).replayed
    produce(stack, "market.ticks.dlq", b"neither a letter nor a note", b"\xff")
    assert box.find(letter.place).replayed
    assert box.bad == 2
