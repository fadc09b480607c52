"""What a person asks of a running gateway, and that the answers are true."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from structlog.testing import capture_logs

from gateway.breaker import BreakerState
from gateway.control.control import Reach
from gateway.operations import Operations, Running
from gateway.pipeline import PipelineStatus
from gateway.settings import GatewaySettings
from gateway.workers import Worker
from trading.risk.trading_state import TradingState


class FakeControl:
    """Keeps what it was told."""

    def __init__(self):
        self.told = []

    def latch(self, state, reason, by):
        self.told.append((state, reason, by))
        return Reach(["Kafka", "Redis"], [])

    def command(self, kind, value, reason, by):
        self.told.append((kind, value, reason, by))


class FakeLogLevel:
    level = "info"

    def set(self, level):
        if level not in {"debug", "info"}:
            raise ValueError(f"log level {level!r}")
        self.level = level


class Gateway:
    """A gateway's parts, as far as they are asked."""

    def __init__(self, workers=()):
        self.stopped, self.control, self.log_level = [], FakeControl(), FakeLogLevel()
        self.listener, self.tritons = SimpleNamespace(problem=""), {"a:8001": "refused", "b:8001": ""}
        pipeline = SimpleNamespace(
            status=lambda: PipelineStatus(0, 0, 0.1, held=False, stopping=False, failure=""),
            stop=lambda: self.stopped.append(True),
        )
        running = Running(
            instance="a", pipeline=pipeline, source=SimpleNamespace(restoring=lambda: 0),
            predictor=SimpleNamespace(servers=lambda: self.tritons), breaker=SimpleNamespace(state=BreakerState.CLOSED),
            stored=SimpleNamespace(known=lambda: True), states=SimpleNamespace(), assignment=SimpleNamespace(),
            metrics=SimpleNamespace(), listener=self.listener, workers=workers,
            challengers=SimpleNamespace(status=list),
        )  # fmt: skip
        self.operations = Operations(GatewaySettings(), running, self.control, self.log_level)


def test_a_thread_that_has_died_makes_the_gateway_unhealthy_and_says_what_of():
    def work():
        raise KeyError("rows")

    dead, alive = Worker("control", work), Worker("fills", lambda: None)
    found = Gateway([dead, alive]).operations
    assert found.health().ok
    dead.start()
    dead.join(5.0)
    assert found.health().problems == ["thread control has ended (KeyError: 'rows')"]
    assert not found.readiness().ok


def test_limits_that_are_not_understood_make_it_not_ready_but_not_unhealthy():
    gateway = Gateway()
    gateway.listener.problem = "limits of a newer version: `max_sector_notional`"
    assert gateway.operations.health().ok
    assert gateway.operations.readiness().problems == [gateway.listener.problem]


@pytest.mark.parametrize("name", ["kill", "halt", "reduce", "resume", "reset", "drain", "log-level"])
def test_nothing_is_done_without_a_reason(name):
    gateway = Gateway()
    with pytest.raises(ValueError, match=f"{name} needs a reason"):
        gateway.operations.command(name, {"what": "drawdown", "level": "debug"})
    assert (gateway.control.told, gateway.stopped, gateway.log_level.level) == ([], [], "info")


def test_who_calls_may_not_pass_for_somebody_else():
    gateway = Gateway()
    gateway.operations.command("kill", {"reason": "drill", "by": "Ada"})
    gateway.operations.command("reset", {"reason": "looked", "what": "drawdown"})
    assert gateway.control.told == [
        (TradingState.KILLED, "drill", "admin endpoint (Ada)"),
        ("reset", "drawdown", "looked", "admin endpoint"),
    ]


def test_what_is_of_this_gateway_alone_is_done_here_and_recorded():
    gateway = Gateway()
    with capture_logs() as told:
        assert gateway.operations.command("log-level", {"reason": "slow", "level": "debug"}) == "log level debug"
        assert gateway.operations.command("drain", {"reason": "new version", "by": "Ada"}) == "draining"
    assert (gateway.stopped, gateway.control.told) == ([True], [])
    assert [(line["command"], line["reason"], line["by"]) for line in told] == [
        ("log-level", "slow", "admin endpoint"),
        ("drain", "new version", "admin endpoint (Ada)"),
    ]


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("explode", {"reason": "x"}),
        ("reset", {"reason": "x", "what": "all"}),
        ("log-level", {"reason": "x", "level": "trace"}),
    ],
)
def test_what_is_no_command_is_refused(name, given):
    with pytest.raises(ValueError):
        Gateway().operations.command(name, given)


def test_a_gateway_that_may_ask_no_triton_is_not_ready_though_nobody_has_asked_yet():
    gateway = Gateway()
    assert gateway.operations.readiness().ok
    gateway.tritons["b:8001"] = "refused"
    assert gateway.operations.readiness().problems == ["no Triton may be asked"]
    assert gateway.operations.health().ok
