"""The control topic: one command reaches every gateway, and what is latched is latched in the log."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import msgspec
import structlog

from connectors.kafka.client import KafkaException, Message, Producer, TopicPartition
from connectors.kafka.cluster import require
from connectors.kafka.errors import CONTROL_TIMEOUT_S
from connectors.kafka.messages import as_bytes, is_end, offset_of, usable
from connectors.kafka.reading import read_to_end, reader
from trading.errors import ConfigurationError, ServiceUnavailable
from trading.events import Command
from trading.portfolio.book import RESETS
from trading.risk.limits import LimitSet, LimitsFile
from trading.risk.trading_state import LatchedState, TradingState, latched_after

log = structlog.get_logger()
#: Part of a partition's state: taken before a tick, and again there in a rebuild.
STEERING = ("limits", "reset")

_decoder = msgspec.json.Decoder(Command)


def send(bootstrap: str, topic: str, command: Command) -> None:
    """Write a command. Raises ServiceUnavailable."""
    failures: list[str] = []

    def report(error: object, _: Message) -> None:
        if error is not None:
            failures.append(str(error))

    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "enable.idempotence": True,
            "message.timeout.ms": int(CONTROL_TIMEOUT_S * 1000),
            "log_level": 0,
        }
    )
    producer.produce(topic, msgspec.json.encode(command), command.kind, partition=0, on_delivery=report)
    left = producer.flush(CONTROL_TIMEOUT_S + 1)
    if left or failures:
        raise ServiceUnavailable(
            f"the command did not reach {topic} on {bootstrap}: {failures[0] if failures else 'no answer'}"
        )


def decode(message: Message) -> Command | None:
    """The command; None for what is none."""
    try:
        return _decoder.decode(as_bytes(message.value()) or b"")
    except msgspec.DecodeError as error:
        log.warning("no command", offset=message.offset(), reason=str(error))
        return None


def all_commands(bootstrap: str, topic: str) -> list[Command]:
    """Everything that was ever asked. Raises ServiceUnavailable."""
    require(bootstrap, topic)
    return [
        command
        for messages in read_to_end(bootstrap, topic, 0, 0)
        for message in messages
        if (command := decode(message)) is not None
    ]


def latched(bootstrap: str, topic: str) -> LatchedState | None:
    """The trading state that the log holds; None where nobody has set one. Raises ServiceUnavailable."""
    found: LatchedState | None = None
    for command in all_commands(bootstrap, topic):
        if command.kind == "trading_state":
            found = folded(found, to_state(command))
    return found


def folded(before: LatchedState | None, told: LatchedState) -> LatchedState:
    """What holds after another word: the more severe, until somebody says ACTIVE."""
    if before is not None and latched_after(before.state, told.state) is not told.state:
        return before
    return told


def to_state(command: Command) -> LatchedState:
    """HALTED where the value is no state: only a human's word is ACTIVE."""
    state = TradingState(command.value) if command.value in set(TradingState) else TradingState.HALTED
    return LatchedState(state, command.reason, command.by, command.at_ns)


def limits_in(bootstrap: str, topic: str) -> tuple[Command, LimitsFile] | None:
    """The limits that are in force, and who set them; None where nobody has. Raises ServiceUnavailable."""
    found = None
    for command in all_commands(bootstrap, topic):
        if command.kind == "limits" and (file := limits_of(command)) is not None:
            found = command, file
    return found


def limits_of(command: Command) -> LimitsFile | None:
    """The limits that a command sets; None, and a warning, for what is none: refused as a whole."""
    try:
        return msgspec.json.decode(command.value, type=LimitsFile)
    except msgspec.DecodeError as error:
        log.warning("limits refused", by=command.by, reason=str(error))
        return None


class ControlListener:
    """Reads the whole topic, then `follow`s it in a thread.

    The latched trading state, limits and resets are taken from its whole past; other commands only
    while we listen, so that a restart does not drain again.
    """

    def __init__(self, bootstrap: str, topic: str, base: LimitSet) -> None:
        """Read what there is.

        Args:
            bootstrap: broker addresses.
            topic: of the commands.
            base: whose limits are resolved.

        Raises:
            ServiceUnavailable: the topic cannot be read.
        """
        self._base = base
        self._steering: list[tuple[int, Command, LimitSet | None]] = []
        self.end = 0
        self._act: Callable[[Command], None] = lambda _: None
        self.latched: LatchedState | None = None
        self._consumer = reader(bootstrap)
        self._consumer.assign([TopicPartition(topic, 0, 0)])
        self._closing = threading.Event()
        deadline = time.monotonic() + CONTROL_TIMEOUT_S
        while not self._step(live=False, timeout_s=0.1):
            if time.monotonic() > deadline:
                raise ServiceUnavailable(f"{topic} on {bootstrap} cannot be read")
        self._thread = threading.Thread(target=self._follow, name="control", daemon=True)

    def follow(self, act: Callable[[Command], None]) -> None:
        """From now on `act` is told every command as it comes."""
        self._act = act
        self._thread.start()

    @property
    def limits(self) -> LimitSet | None:
        """Those in force; None where nobody has set any."""
        return next((limits for _, _, limits in reversed(self._steering) if limits is not None), None)

    def between(self, start: int, stop: int) -> list[tuple[Command, LimitSet | None]]:
        """Commands that change limits or latches, from `start` to before `stop`, in order."""
        return [(command, limits) for offset, command, limits in self._steering if start <= offset < stop]

    def close(self) -> None:
        """Stop listening."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join(2.0)
        self._consumer.close()

    def _step(self, *, live: bool, timeout_s: float) -> bool:
        """Take one message; returns whether the end was reached."""
        message = self._consumer.poll(timeout_s)
        if message is None:
            return False
        if is_end(message):
            return True
        if not usable(message):
            return False
        if (command := decode(message)) is not None:
            if command.kind == "trading_state":
                self.latched = folded(self.latched, to_state(command))
            elif command.kind in STEERING:
                self._steer(offset_of(message), command)
            if live:
                log.info("command", kind=command.kind, value=command.value[:100], reason=command.reason,
                         by=command.by, offset=offset_of(message))  # fmt: skip
                self._act(command)
        # After what it means: whoever reads the end finds everything before it.
        self.end = offset_of(message) + 1
        return False

    def _steer(self, offset: int, command: Command) -> None:
        limits = None
        if command.kind == "limits":
            if (file := limits_of(command)) is None:
                return
            try:
                # Everything that it means, now: nothing of it may fail while a tick is decided.
                limits = self._base.like(file).whole()
            except ConfigurationError as error:
                log.warning("limits refused", by=command.by, reason=str(error))
                return
        elif command.value not in RESETS:
            log.warning("nothing to reset", value=command.value, by=command.by)
            return
        self._steering.append((offset, command, limits))

    def _follow(self) -> None:
        while not self._closing.is_set():
            try:
                self._step(live=True, timeout_s=0.2)
            except (KafkaException, ServiceUnavailable) as error:
                log.warning("control topic cannot be read", reason=str(error)[:200])
                self._closing.wait(1.0)
