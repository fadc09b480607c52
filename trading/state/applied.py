"""What was taken of commands and the broker's reports before a tick, as its decision says; taken again there."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Protocol

import msgspec
from msgspec import Struct

from trading.control import read_limits
from trading.decision.wire import make_id
from trading.encoding import Records
from trading.errors import BadRecord, ConfigurationError
from trading.events import Command, ExecutionReport, PartitionEvents
from trading.portfolio.book import RESETS
from trading.portfolio.working_orders import FOREIGN
from trading.risk.limits import LimitSet
from trading.state.partition import PartitionState

Reports = deque[tuple[int, ExecutionReport]]
_reports = Records(ExecutionReport)


class AppliedOffsets(Struct, frozen=True):
    """Before the tick at `offset` so much was taken of fills (negative: no broker) and of the control topic.

    `limits_version` names the limits that it was judged by. `unknown`: a record lay here that is no decision; it
    says none of this, and what it ordered is not known.
    """

    offset: int
    limits_version: str
    fills_to: int
    control_to: int
    unknown: bool = False

    @property
    def assumed(self) -> bool:
        """Whether orders counted as filled."""
        return self.fills_to < 0


def steers(command: Command) -> bool:
    """Whether a command is part of a partition's state."""
    return command.kind == "limits" or (command.kind == "reset" and command.value in RESETS)


def limits_of(command: Command, base: LimitSet) -> LimitSet | None:
    """The limits that a command sets, like `base`; None where it sets none, or they are not understood."""
    if command.kind != "limits":
        return None
    try:
        return base.like(read_limits(command.value)).whole()
    except (BadRecord, ConfigurationError):
        return None


def read_report(payload: bytes | None, ticks_topic: str, partition: int) -> ExecutionReport:
    """A record of the fills; an order of no tick of this partition has no number here. Raises BadRecord."""
    report = _reports.read(payload)
    if report.order_id == make_id(ticks_topic, partition, report.number):
        return report
    return msgspec.structs.replace(report, number=FOREIGN)


class CommandLog(Protocol):
    """Where commands are read from; may raise ServiceUnavailable."""

    def commands(self, start: int, stop: int) -> list[tuple[Command, LimitSet | None]]:
        """Those of the control topic from `start` to before `stop` that change limits or latches."""


class EventTaker:
    """Moves a state by what its decisions say was taken.

    Attributes:
        unknown_limits: limits that held at some time, and are not understood.
    """

    def __init__(self, log: CommandLog, state: PartitionState) -> None:
        """Nothing is taken yet."""
        self._log, self._state = log, state
        self.unknown_limits = 0
        #: Whether the limits that were set last are unknown, and whoever decided did not know them either.
        self._left_aside = False

    def take_until(self, offset: int, applied: deque[AppliedOffsets], reports: Reports, assumed: bool) -> bool:
        """Take again all that was taken before the tick at `offset`; returns as `take` does."""
        while applied and applied[0].offset <= offset:
            assumed = self.take(applied.popleft(), reports, assumed)
        return assumed

    def take(self, applied: AppliedOffsets, reports: Reports, assumed: bool) -> bool:
        """Take again what was taken before a tick; returns whether orders count as filled from there on."""
        if applied.unknown:
            self._state.book.latch_drawdown()
            return assumed
        mine = []
        while reports and reports[0][0] < applied.fills_to:
            mine.append(reports.popleft()[1])
        commands = self._log.commands(self._state.control_to, applied.control_to)
        self._take_commands(commands, applied.limits_version)
        self._state.take(PartitionEvents([], applied.control_to, mine, applied.fills_to))
        return applied.assumed

    def _take_commands(self, commands: Sequence[tuple[Command, LimitSet | None]], judged_by: str) -> None:
        """Take commands, after which a tick was judged by the limits of this version.

        Where limits were set that this gateway does not know, a gateway that knew them may have latched what nobody
        can tell now, unless the version says that it left them aside too. A later reset ends that.
        """
        known = [limits for _, limits in commands if limits is not None]
        was_known = (known[-1] if known else self._state.book.limits).version == judged_by
        for command, limits in commands:
            if command.kind == "limits":
                self.unknown_limits += limits is None
                self._left_aside = limits is None and was_known
                if limits is None and not was_known:
                    self._state.book.latch_drawdown()
            self._state.take(PartitionEvents([(command, limits)], 0, [], 0))
        if self._left_aside and not was_known:
            # Another gateway, which knew them, went on.
            self._state.book.latch_drawdown()
            self._left_aside = False
