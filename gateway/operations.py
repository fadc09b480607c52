"""What a person may ask of a running gateway, and the true answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import structlog
from msgspec import Struct

from connectors.logs import LogLevel
from gateway.adapters.admin import Health
from gateway.adapters.challengers import Challengers
from gateway.adapters.kafka_source import KafkaTickSource
from gateway.adapters.metrics import PrometheusMetrics
from gateway.adapters.triton_lineup import Server
from gateway.assignment import PartitionAssignment
from gateway.breaker import BreakerState, CircuitBreaker
from gateway.control.control import Control
from gateway.control.redis_latch import RedisStateStore
from gateway.control.topic import ControlListener
from gateway.pipeline import Pipeline
from gateway.ports import StateStore
from gateway.settings import GatewaySettings
from gateway.workers import Worker
from trading.errors import ServiceUnavailable
from trading.events import Command
from trading.portfolio.book import RESETS
from trading.risk.trading_state import TradingState

log = structlog.get_logger()
#: So long without a poll, the gateway is stuck.
POLL_SILENCE_S = 10.0
LATCHES = {
    "kill": TradingState.KILLED,
    "halt": TradingState.HALTED,
    "reduce": TradingState.REDUCING,
    "resume": TradingState.ACTIVE,
}
COMMANDS = (*LATCHES, "reset", "drain", "log-level")


class Running(Struct, frozen=True):
    """A gateway's parts, as far as people ask about them."""

    instance: str
    pipeline: Pipeline
    source: KafkaTickSource
    predictor: Server
    breaker: CircuitBreaker
    stored: RedisStateStore
    states: StateStore
    assignment: PartitionAssignment
    metrics: PrometheusMetrics
    listener: ControlListener
    workers: Sequence[Worker]
    challengers: Challengers


class Operations:
    """Health, readiness, status and commands of one gateway."""

    def __init__(self, settings: GatewaySettings, running: Running, control: Control, log_level: LogLevel) -> None:
        self._settings, self._control, self._log_level = settings, control, log_level
        self._running, self._pipeline, self._source = running, running.pipeline, running.source
        self._predictor, self._breaker = running.predictor, running.breaker

    def health(self) -> Health:
        """Whether the process does its work at all; where not, restart it."""
        found = self._pipeline.status()
        problems = [found.failure] if found.failure else []
        if found.last_poll_s > POLL_SILENCE_S:
            problems.append(f"Kafka was not polled for {found.last_poll_s:.0f} s")
        problems += [worker.problem for worker in self._running.workers if worker.problem]
        return Health(not problems, problems)

    def readiness(self) -> Health:
        """Whether ticks that come now are decided as they should be."""
        found, restoring = self._pipeline.status(), self._source.restoring()
        causes = {
            "draining": found.stopping,
            f"{restoring} partitions are being rebuilt": restoring > 0,
            "more is in flight than is settled: the source is held": found.held,
            f"Triton's circuit breaker is {self._breaker.state}": self._breaker.state is not BreakerState.CLOSED,
            "no Triton may be asked": all(self._predictor.servers().values()),
            "Redis does not answer: the trading state counts as reducing": not self._running.stored.known(),
        }
        limits = self._running.listener.problem
        problems = [*self.health().problems, *(cause for cause, holds in causes.items() if holds)]
        problems += [limits] if limits else []
        return Health(not problems, problems)

    def status(self) -> dict[str, Any]:
        """What `gateway status` and `gateway top` show."""
        readiness = self.readiness()
        return {
            "instance": self._running.instance,
            "group": self._settings.group,
            "delivery": self._settings.delivery,
            "model": f"{self._predictor.model_name}/{self._predictor.model_version}",
            "rows_multiple": self._predictor.rows_multiple,
            "tritons": self._predictor.servers(),
            "trading_state": self._running.states.trading_state().value,
            "breaker": self._breaker.state.value,
            "experiments": self._running.challengers.status(),
            "partitions": self._running.assignment.partitions(),
            "restoring": self._source.restoring(),
            "ready": readiness.ok,
            "problems": readiness.problems,
            "books": self._running.assignment.states.books(),
            "log_level": self._log_level.level,
            "pipeline": self._pipeline.status(),
        }

    def command(self, name: str, given: dict[str, str]) -> str:
        """Carry out what the admin endpoint was asked.

        Raises:
            ValueError: no such command, or something is missing.
            ServiceUnavailable: it could not be latched.
        """
        reason, by = checked(name, given)
        if name in LATCHES:
            return latch(self._control, name, reason, by)
        if name == "reset":
            if (what := given.get("what", "")) not in RESETS:
                raise ValueError(f"reset needs what: one of {', '.join(RESETS)}")
            self._control.command("reset", what, reason, by)
            return f"{what} reset"
        log.info(
            "command of this gateway alone", command=name, log_level=given.get("level", ""), reason=reason, by=by
        )
        if name == "drain":
            self._pipeline.stop()
            return "draining"
        self._log_level.set(given.get("level", ""))
        return f"log level {self._log_level.level}"

    def act(self, command: Command) -> None:
        """Carry out what the control topic told; the trading state is latched there already."""
        if command.kind == "drain":
            self._pipeline.stop()
        elif command.kind == "log_level":
            self._log_level.set(command.value)


def checked(name: str, given: dict[str, str]) -> tuple[str, str]:
    """Why a command is given, and by whom. Raises ValueError where it is none, or without a reason."""
    if name not in COMMANDS:
        raise ValueError(f"{name!r} is no command: expected {', '.join(COMMANDS)}")
    if not (reason := given.get("reason", "")):
        raise ValueError(f"{name} needs a reason")
    # Who has the token may call himself anything; that it came this way stays in the record.
    return reason, "admin endpoint" + (f" ({given['by']})" if given.get("by") else "")


def latch(control: Control, name: str, reason: str, by: str) -> str:
    """Latch a trading state for the desk; returns where. Raises ServiceUnavailable where it could not be."""
    reach = control.latch(LATCHES[name], reason, by)
    return f"{LATCHES[name]}, latched in {' and '.join(reach.arrived)}"


class WarmingUp:
    """What a gateway answers before it has begun: it is well, and decides nothing yet; the desk can be stopped."""

    def __init__(self, status: dict[str, Any], states: StateStore, control: Control) -> None:
        """Begin.

        Args:
            status: what is known of it.
            states: the latched trading state.
            control: where a trading state is latched.
        """
        self._status, self._states, self._control = status, states, control
        #: How far it is.
        self.said = "warming up: connecting"

    def say(self, text: str) -> None:
        """How far it is now."""
        self.said = text

    def health(self) -> Health:
        """Nothing is wrong."""
        return Health(True, [])

    def readiness(self) -> Health:
        """Not ready, and how far."""
        return Health(False, [self.said])

    def status(self) -> dict[str, Any]:
        """As `Operations.status`, of what there is."""
        return {
            **self._status, "trading_state": self._states.trading_state().value, "partitions": [], "ready": False,
            "problems": [self.said],
        }  # fmt: skip

    def command(self, name: str, given: dict[str, str]) -> str:
        """Latch a trading state.

        Raises:
            ValueError: no such command, or something is missing.
            ServiceUnavailable: it could not be latched; or it is for a gateway that has begun.
        """
        reason, by = checked(name, given)
        if name not in LATCHES:
            raise ServiceUnavailable(f"{name} is not taken yet ({self.said}): try again in a moment")
        return latch(self._control, name, reason, by)
