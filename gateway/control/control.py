"""Halt, reduce, resume: latched twice, in Redis and in the control topic; the more severe one holds.

Stopping works while one of the two answers; going on needs both.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from msgspec import Struct

from connectors.redis import connect
from gateway.control import redis_latch
from gateway.control import topic as control_topic
from gateway.ports import StateStore
from trading.encoding import encode
from trading.errors import ConfigurationError, ServiceUnavailable
from trading.events import Command, CommandKind
from trading.risk.limits import LimitsFile
from trading.risk.trading_state import SEVERITY, LatchedState, TradingState


class Reach(Struct, frozen=True):
    """Where a command has arrived, and what kept it from the rest."""

    arrived: list[str]
    failures: list[str]


class Control:
    """Gives commands to every gateway of a desk."""

    def __init__(self, bootstrap: str, topic: str, redis_url: str) -> None:
        self._bootstrap, self._topic, self._redis_url = bootstrap, topic, redis_url

    def latch(self, state: TradingState, reason: str, by: str) -> Reach:
        """Set the state until a human sets another.

        Raises:
            ServiceUnavailable: nobody could be told; or, for ACTIVE, not both.
        """
        if state is TradingState.ACTIVE:
            return self._resume(reason, by)
        arrived, failures = [], []
        steps: dict[str, Callable[[], None]] = {
            "Kafka": lambda: self.command("trading_state", state.value, reason, by),
            "Redis": lambda: self._latch_in_redis(state, reason, by),
        }
        # At once: the slower of the two must not hold the other up.
        with ThreadPoolExecutor(len(steps)) as pool:
            running = {name: pool.submit(step) for name, step in steps.items()}
        for name, one in running.items():
            try:
                one.result()
            except Exception as error:  # noqa: BLE001 - whatever keeps one from being told, the other must be
                failures.append(f"{name}: {error}")
            else:
                arrived.append(name)
        if not arrived:
            raise ServiceUnavailable(f"the desk is not set to {state}: " + "; ".join(failures))
        return Reach(arrived, failures)

    def _resume(self, reason: str, by: str) -> Reach:
        """The log first, while Redis still holds the desk: a resume that fails half way lifts nothing."""
        try:
            client = connect(self._redis_url)
            logged = control_topic.in_force(self._bootstrap, self._topic).latched
            # While only one of the two goes on, the other must hold the desk.
            held = most_severe(redis_latch.read(client), logged)
            redis_latch.write(client, held.state, held.reason, held.by)
            self.command("trading_state", TradingState.ACTIVE.value, reason, by)
            redis_latch.write(client, TradingState.ACTIVE, reason, by)
        except ServiceUnavailable as error:
            raise ServiceUnavailable(f"the desk is not set to active: {error}") from error
        return Reach(["Kafka", "Redis"], [])

    def command(self, kind: CommandKind, value: str, reason: str, by: str) -> None:
        """Tell every gateway that listens. Raises ServiceUnavailable."""
        control_topic.send(self._bootstrap, self._topic, control_topic.told(kind, value, reason, by))

    def limits(self) -> tuple[Command, LimitsFile] | None:
        """The limits in force, and who set them; None where nobody has.

        Raises:
            ServiceUnavailable: the log cannot be read.
            ConfigurationError: they are not understood.
        """
        return control_topic.in_force(self._bootstrap, self._topic).limits()

    def apply(self, limits: LimitsFile, reason: str, by: str) -> None:
        """From now on these limits, for every gateway. Raises ServiceUnavailable."""
        self.command("limits", encode(limits).decode(), reason, by)

    def effective(self) -> LatchedState:
        """The more severe of the two. Raises ServiceUnavailable when one cannot be read."""
        stored = redis_latch.read(connect(self._redis_url))
        found = control_topic.in_force(self._bootstrap, self._topic)
        with contextlib.suppress(ConfigurationError):
            found.limits()
        return most_severe(stored, found.state())

    def _latch_in_redis(self, state: TradingState, reason: str, by: str) -> None:
        redis_latch.write(connect(self._redis_url), state, reason, by)


class DualLatch:
    """Implements StateStore: Redis, and what the control topic said."""

    def __init__(self, stored: StateStore, logged: Callable[[], LatchedState | None]) -> None:
        self._stored, self._logged = stored, logged

    def trading_state(self) -> TradingState:
        """The more severe of the two."""
        stored, logged = self._stored.trading_state(), self._logged()
        return stored if logged is None else max(stored, logged.state, key=SEVERITY.__getitem__)


def most_severe(stored: LatchedState, logged: LatchedState | None) -> LatchedState:
    """Where both say the same, the later word."""
    if logged is None:
        return stored
    return max(stored, logged, key=lambda latched: (SEVERITY[latched.state], latched.at_ns))
