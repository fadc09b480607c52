"""A stop ends what works at the broker, whoever was dead meanwhile, and the log tells how soon."""

from __future__ import annotations

import json
import time

import pytest
from typer.testing import CliRunner

from gateway.control.control import Control
from loadtest.open_loop.publisher import TickPublisher
from loadtest.open_loop.schedule import Speed, plan
from stack.cli.main import app
from stack.processes.broker import running_broker
from stack.processes.gateway import running_gateway
from tests.e2e.test_desk import PATIENT
from tests.waiting import eventually
from trading.history import open_source
from trading.risk.limits import LimitsFile
from trading.risk.trading_state import TradingState

CLI = CliRunner()
#: So slow that whatever ends is ended by a cancel.
SLOW = {"latency_ms": 3_600_000, "reject_share": 0.0}


@pytest.fixture
def control(stack):
    found = Control(stack.kafka_bootstrap, "gateway.control", stack.redis_url)
    found.apply(LimitsFile(defaults={"max_staleness_s": None, "max_drawdown": None}), "several markets", "test")
    yield found
    found.latch(TradingState.ACTIVE, "test over", "test")
    found.apply(LimitsFile(), "test over", "test")


def feed(stack, seed, ticks=1200):
    source = open_source(f"simulate:regimes?seed={seed}&ticks={ticks}&symbols=3")
    TickPublisher(stack.kafka_bootstrap, "market.ticks").publish(
        plan(source.records(), Speed("constant", rate_hz=800.0))
    )


def newest():
    """The newest stop, and the command's exit code."""
    done = CLI.invoke(app, ["gateway", "stops", "--last", "1", "--json"])
    (found,) = json.loads(done.output)
    return found, done.exit_code


@pytest.mark.slow
@pytest.mark.usefixtures("exported")
def test_a_halt_ends_what_works_at_the_broker_and_the_log_tells_how_soon(stack, control):
    """A halt, not a kill: that the broker hears of by itself."""
    with (
        running_broker(stack, **SLOW),
        running_gateway(stack, execution="broker", **PATIENT),
    ):
        feed(stack, 61)
        assert CLI.invoke(app, ["gateway", "halt", "--reason", "drill 1"]).exit_code == 0
        found, code = eventually(lambda: done if (done := newest())[0]["open"] == 0 < done[0]["orders"] else None)
    assert (found["state"], found["reason"], code) == ("halted", "drill 1", 0)
    assert found["cancelled"] == found["orders"] > 3
    assert 0.0 < found["asked_ms"] <= found["ended_ms"]
    shown = CLI.invoke(app, ["gateway", "stops"])
    assert "drill 1" in shown.output


@pytest.mark.slow
@pytest.mark.usefixtures("exported")
def test_a_kill_of_a_dead_desk_is_carried_out_by_whoever_comes_back(stack, control):
    """Neither gateway nor broker hears it; both were killed with orders at work."""
    with running_broker(stack, **SLOW) as broker, running_gateway(stack, execution="broker", **PATIENT) as gateway:
        feed(stack, 62)
        time.sleep(1.0)
        gateway.kill()
        broker.kill()
    control.latch(TradingState.KILLED, "drill 2", "test")
    assert newest()[0]["orders"] == 0
    with running_gateway(stack, execution="broker", **PATIENT):
        # Asked, and nobody there to answer.
        found, code = eventually(lambda: done if (done := newest())[0]["orders"] else None)
        assert (found["open"], found["ended_ms"], code) == (found["orders"], None, 1)
        with running_broker(stack, **SLOW):
            found, code = eventually(lambda: done if (done := newest())[0]["open"] == 0 else None, 30.0)
    # What the broker had not answered yet it may refuse: it heard of the kill before it read the order again.
    assert (found["reason"], found["cancelled"] + found["rejected"], code) == ("drill 2", found["orders"], 0)
