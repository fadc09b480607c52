"""Limits and resets of the control topic, by offset: what a rebuild takes again, and a book takes before a tick."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator

import structlog
from msgspec import Struct

from trading.control import read_command, read_limits
from trading.errors import BadRecord, ConfigurationError
from trading.events import Command
from trading.risk.limits import LimitSet
from trading.state.applied import steers

log = structlog.get_logger()
#: So much text is held; what is older is read again when a rebuild asks for it.
HELD_BYTES = 16_000_000
#: Limits that are held resolved: a book takes them soon after they came.
HELD_RESOLVED = 16
#: Reads offsets and payloads of the topic, from one offset to before another.
ReadAgain = Callable[[int, int], Iterable[tuple[int, bytes | None]]]


class Steering(Struct, frozen=True):
    """A command that is part of a partition's state, where it lies."""

    offset: int
    command: Command


class SteeringLog:
    """Limits and resets by offset: the newest are held, older ones are read again, and limits are resolved late."""

    def __init__(self, base: LimitSet, read_again: ReadAgain) -> None:
        """Nothing is known yet.

        Args:
            base: whose limits are resolved.
            read_again: for what is no longer held.
        """
        self._base, self._read_again = base, read_again
        self._held: list[Steering] = []
        self._held_bytes, self._held_from = 0, 0
        self._resolved: OrderedDict[int, LimitSet | str] = OrderedDict()

    def add(self, offset: int, command: Command) -> None:
        """The next one, in order."""
        self._held = [*self._held, Steering(offset, command)]
        self._held_bytes += len(command.value)
        while self._held_bytes > HELD_BYTES and len(self._held) > 1:
            self._held_bytes -= len(self._held[0].command.value)
            self._held_from = self._held[0].offset + 1
            self._held = self._held[1:]

    def between(self, start: int, stop: int) -> list[tuple[Command, LimitSet | None]]:
        """From `start` to before `stop`, in order; limits that are not understood are None, and hold for nobody."""
        held, held_from = self._held, self._held_from
        found = [one for one in held if start <= one.offset < stop]
        if start < held_from:
            found = [*self._again(start, min(stop, held_from)), *found]
        return [(one.command, self._limits_of(one)) for one in found]

    def resolve(self, offset: int, command: Command) -> LimitSet | str:
        """The limits that a command sets, or why this gateway cannot use them."""
        if offset in self._resolved:
            return self._resolved[offset]
        found: LimitSet | str
        try:
            # Everything that it means, now: nothing of it may fail while a tick is decided.
            found = self._base.like(read_limits(command.value)).whole()
        except (BadRecord, ConfigurationError) as error:
            found = str(error)
            log.warning("limits are not used", offset=offset, by=command.by, reason=found)
        self._resolved[offset] = found
        while len(self._resolved) > HELD_RESOLVED:
            self._resolved.popitem(last=False)
        return found

    def _limits_of(self, one: Steering) -> LimitSet | None:
        if one.command.kind != "limits":
            return None
        found = self.resolve(one.offset, one.command)
        return None if isinstance(found, str) else found

    def _again(self, start: int, stop: int) -> Iterator[Steering]:
        for offset, payload in self._read_again(start, stop):
            try:
                command = read_command(payload)
            except BadRecord:
                continue
            if steers(command):
                yield Steering(offset, command)
