"""The control topic: one command reaches every gateway, and what is latched is latched in the log."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping

import structlog

from connectors.kafka.client import KafkaException, TopicPartition
from connectors.kafka.cluster import require
from connectors.kafka.errors import CONTROL_TIMEOUT_S
from connectors.kafka.messages import as_bytes, is_end, offset_of, usable
from connectors.kafka.reading import FOLLOWING_MS, read_to_end, reader
from connectors.kafka.writing import write_one
from gateway.control.redis_latch import MOST_REASON
from gateway.control.steering import SteeringLog
from gateway.workers import Worker
from trading.control import InForce, read_command
from trading.encoding import encode, safe_text
from trading.errors import BadRecord, ConfigurationError, ServiceUnavailable
from trading.events import Command, CommandKind
from trading.experiments.register import Experiment
from trading.risk.limits import LimitSet
from trading.risk.trading_state import LatchedState, TradingState
from trading.state.applied import steers

log = structlog.get_logger()
#: What a broker takes by default, less what a record needs beside its value.
MOST_BYTES = 1_000_000
#: What ends an experiment, as it is written.
STOPS_EXPERIMENT = '"act":"stop"'


def told(kind: CommandKind, value: str, reason: str, by: str) -> Command:
    """A command of now, whose texts can be written whatever they are."""
    return Command(kind, value, safe_text(reason)[:MOST_REASON], safe_text(by)[:MOST_REASON], time.time_ns())


def is_stop(command: Command) -> bool:
    """Whether it only ever reduces what the desk does, or what is tried on it."""
    if command.kind == "experiment":
        return STOPS_EXPERIMENT in command.value
    return command.kind == "trading_state" and command.value != TradingState.ACTIVE


def send(bootstrap: str, topic: str, command: Command) -> None:
    """Write a command, once; a stop at once, and perhaps twice.

    An idempotent producer waits half a second for its number, and a stop must not. But whatever else is written
    again after an answer was lost may undo what came in between.

    Raises:
        ServiceUnavailable: it did not reach the log.
        ConfigurationError: it is too large for a record.
    """
    payload = encode(command)
    if len(payload) > MOST_BYTES:
        way_out = ": give what many symbols share under `defaults`" if command.kind == "limits" else ""
        raise ConfigurationError(
            f"the {command.kind} are {len(payload):,} bytes, and a record of {topic} holds {MOST_BYTES:,}{way_out}"
        )
    write_one(bootstrap, topic, payload, command.kind, "the command", once=not is_stop(command))


def all_commands(bootstrap: str, topic: str) -> Iterator[Command]:
    """Everything that was ever asked, but what was no command. Raises ServiceUnavailable."""
    require(bootstrap, topic)
    for _, payload in _records(bootstrap, topic):
        try:
            yield read_command(payload)
        except BadRecord as error:
            log.warning("no command", reason=str(error))


def in_force(bootstrap: str, topic: str) -> InForce:
    """What the log holds now. Raises ServiceUnavailable."""
    require(bootstrap, topic)
    found = InForce()
    for offset, payload in _records(bootstrap, topic):
        found.take(offset, payload)
    return found


def _records(
    bootstrap: str, topic: str, start: int = 0, stop: int | None = None
) -> Iterator[tuple[int, bytes | None]]:
    for messages in read_to_end(bootstrap, topic, 0, start, stop):
        for message in messages:
            yield offset_of(message), as_bytes(message.value())


class ControlListener:
    """Reads the whole topic, then `follow`s it in a thread.

    The latched trading state, limits and resets are taken from its whole past; other commands only
    while we listen, so that a restart does not drain again.
    """

    def __init__(
        self, bootstrap: str, topic: str, base: LimitSet, bad_record: Callable[[], None] = lambda: None
    ) -> None:
        """Read what there is, however long that takes, as long as it comes.

        Args:
            bootstrap: broker addresses.
            topic: of the commands.
            base: whose limits are resolved.
            bad_record: told of each record that is no command.

        Raises:
            ServiceUnavailable: the topic cannot be read.
            ConfigurationError: the limits in force are not understood.
        """
        self._bad_record = bad_record
        self._in_force = InForce()
        self._steering = SteeringLog(base, lambda start, stop: _records(bootstrap, topic, start, stop))
        self.limits: LimitSet | None = None
        #: What was said of logs that continue others; whose word it is, is not looked at here.
        self.rebindings: tuple[str, ...] = ()
        self.end = 0
        self._act: Callable[[Command], None] = lambda _: None
        self._consumer = reader(bootstrap, waits_ms=FOLLOWING_MS)
        self._closing = threading.Event()
        self.worker = Worker("control", self._follow)
        try:
            self._consumer.assign([TopicPartition(topic, 0, 0)])
            self._read_whole(f"{topic} on {bootstrap}")
            self._use_newest_limits()
            if self.problem:
                raise ConfigurationError(self.problem)
        except BaseException:
            self._consumer.close()
            raise

    def follow(self, act: Callable[[Command], None]) -> None:
        """From now on `act` is told every command as it comes."""
        self._act = act
        self.worker.start()

    @property
    def latched(self) -> LatchedState | None:
        """The trading state; at least REDUCING while limits were set that this gateway cannot use."""
        return self._in_force.state()

    @property
    def experiments(self) -> Mapping[str, Experiment]:
        """As they stand; another object where anything changed."""
        return self._in_force.experiments.experiments

    @property
    def problem(self) -> str:
        """Why this gateway does not trade by the limits that were set last; "" where it does."""
        return self._in_force.problem

    def between(self, start: int, stop: int) -> list[tuple[Command, LimitSet | None]]:
        """Commands that change limits or latches, from `start` to before `stop`, in order."""
        return self._steering.between(start, stop)

    def close(self) -> None:
        """Stop listening."""
        self._closing.set()
        if self.worker.is_alive():
            self.worker.join(2.0)
        self._consumer.close()

    def _read_whole(self, what: str) -> None:
        quiet_since, read_to = time.monotonic(), -1
        while not self._step(live=False, timeout_s=0.1):
            if self.end != read_to:
                quiet_since, read_to = time.monotonic(), self.end
            elif time.monotonic() - quiet_since > CONTROL_TIMEOUT_S:
                raise ServiceUnavailable(f"{what} cannot be read: nothing came for {CONTROL_TIMEOUT_S:.0f} s")

    def _step(self, *, live: bool, timeout_s: float) -> bool:
        """Take one message; returns whether the end was reached."""
        message = self._consumer.poll(timeout_s)
        if message is None:
            return False
        if is_end(message):
            return True
        if not usable(message):
            return False
        offset = offset_of(message)
        self.take(offset, as_bytes(message.value()), live=live)
        # After what it means: whoever reads the end finds everything before it.
        self.end = max(self.end, offset + 1)
        return False

    def take(self, offset: int, payload: bytes | None, *, live: bool) -> None:
        """Take a record; what it is about is done at once only if it is `live`."""
        command = self._in_force.take(offset, payload)
        if command is None:
            log.warning("no command", offset=offset)
            self._bad_record()
            return
        if steers(command):
            self._steering.add(offset, command)
        elif command.kind == "rebind":
            self.rebindings = (*self.rebindings, command.value)
        elif command.kind == "reset":
            log.warning("nothing to reset", value=command.value[:100], by=command.by)
        if live:
            log.info("command", kind=command.kind, value=command.value[:100], reason=command.reason,
                     by=command.by, offset=offset)  # fmt: skip
            self._use_newest_limits()
            self._carry_out(command)

    def _use_newest_limits(self) -> None:
        """Resolve what was set last; where that cannot be used, the limits before stay, and the desk reduces."""
        newest = self._in_force.newest
        if newest is None or self._in_force.refused:
            return
        found = self._steering.resolve(*newest)
        if isinstance(found, str):
            self._in_force.refuse(found)
        else:
            self.limits = found

    def _carry_out(self, command: Command) -> None:
        try:
            self._act(command)
        except Exception as error:  # noqa: BLE001 - a command that fails must not keep later ones from being heard
            log.warning("command failed", kind=command.kind, value=command.value[:100], reason=str(error)[:200])
            self._bad_record()

    def _follow(self) -> None:
        while not self._closing.is_set():
            try:
                self._step(live=True, timeout_s=0.2)
            except (KafkaException, ServiceUnavailable) as error:
                log.warning("control topic cannot be read", reason=str(error)[:200])
                self._closing.wait(1.0)
