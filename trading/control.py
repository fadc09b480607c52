"""What the records of the control topic say, and what holds after them. Pure; a function of the log alone.

What is not understood is never taken for what is permissive: a stop counts whatever else its record says, a
command of an unknown kind reduces, and limits that cannot be read leave the desk reducing until others are set.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec
from msgspec import Struct

from trading.encoding import QUOTED, Records
from trading.errors import BadRecord, ConfigurationError
from trading.events import Command
from trading.experiments.register import ExperimentRegister
from trading.risk.calendar import compile_session
from trading.risk.limits import DECLARED, Limits, LimitsFile
from trading.risk.trading_state import SEVERITY, LatchedState, TradingState, latched_after


class NewerCommand(Struct):
    """As much of a command as any version writes."""

    kind: str
    value: Any = ""
    reason: Any = ""
    by: Any = ""
    at_ns: Any = 0


class _Versioned(Struct):
    version: Any = None


_commands, _newer = Records(Command), Records(NewerCommand)
_TRADING_STATE, _VALUE = re.compile(rb'"kind"\s*:\s*"trading_state"'), re.compile(rb'"value"\s*:\s*"(\w+)"')
_limits, _versioned = Records(LimitsFile), Records(_Versioned)


def read_command(payload: bytes | None) -> Command:
    """The command that a record holds.

    A record of a newer version, with a kind or field that is not known here, stops where it says so and reduces
    otherwise, until a human says ACTIVE.

    Raises:
        BadRecord: it is no command of any version.
    """
    try:
        return _commands.read(payload)
    except BadRecord as error:
        told = _any_version(payload or b"")
        state, reason = TradingState.REDUCING, f"a command that this version does not understand: {error}"
        if told.kind == "trading_state" and told.value != TradingState.ACTIVE:
            state, reason = to_state(told.value), as_text(told.reason) or reason
        at_ns = told.at_ns if isinstance(told.at_ns, int) else 0
        by = as_text(told.by) or "somebody"
        return Command("trading_state", state.value, reason, by, min(max(at_ns, 0), 2**62))


def is_understood(payload: bytes | None) -> bool:
    """Whether a record is a command of this version."""
    try:
        _commands.read(payload)
    except BadRecord:
        return False
    return True


def _any_version(payload: bytes) -> NewerCommand:
    """As much of a command as can be made out. Raises BadRecord where nothing can.

    A reason in another encoding, a number that is none, or a field that nobody can read must not keep a stop from
    being heard: where all else fails its own two words are looked for.
    """
    try:
        return _newer.read(payload.decode("utf-8", "replace").removeprefix("\ufeff"))
    except BadRecord:
        if _TRADING_STATE.search(payload) is None:
            raise
        value = _VALUE.search(payload)
        return NewerCommand("trading_state", "" if value is None else value[1].decode())


def read_limits(text: str) -> LimitsFile:
    """The limits that a command sets, every level of them looked at.

    Raises:
        BadRecord: naming the field, and the version of the format that they say they are of.
    """
    try:
        file = _limits.read(text)
        for level in ({"": file.defaults}, file.accounts, file.strategies, file.symbols):
            for values in level.values():
                msgspec.convert(values, Limits, strict=False)
        wrong = sorted(n for values in file.symbols.values() for n in values if DECLARED[n].scope == "book")
        if wrong:
            raise BadRecord(f"`{wrong[0]}` of a symbol holds for the whole book")
        compile_session(file.session)
    except (BadRecord, ConfigurationError, msgspec.ValidationError) as error:
        raise BadRecord(
            f"{str(error)[:QUOTED]} (format version {_version(text)!r}; this gateway reads 1)"
        ) from None
    return file


def _version(text: str) -> object:
    try:
        return _versioned.read(text).version
    except BadRecord:
        return None


def as_text(value: object) -> str:
    """A text; "" for what is none."""
    return value if isinstance(value, str) else ""


def to_state(value: object) -> TradingState:
    """HALTED where the value is no state: only a human's word is ACTIVE."""
    known = {state.value: state for state in TradingState}
    return known.get(as_text(value), TradingState.HALTED)


def folded(before: LatchedState | None, told: LatchedState) -> LatchedState:
    """What holds after another word: the more severe, until somebody says ACTIVE."""
    if before is not None and latched_after(before.state, told.state) is not told.state:
        return before
    return told


class InForce:
    """What holds after the records that were taken, from the first on.

    Attributes:
        latched: the trading state; None where nobody has set one.
        bad: how many records were no commands.
        newest: offset and command of the limits that were set last; None where nobody has set any.
        refused: why these are not used; "" where they are, or have not been looked at.
        severed: why what follows is not the log that was taken; "" where it is.
        experiments: every one that was ever created, and how it stands.
    """

    def __init__(self) -> None:
        self.latched: LatchedState | None = None
        self.bad = 0
        self.newest: tuple[int, Command] | None = None
        self.refused = self.severed = ""
        self.experiments = ExperimentRegister()
        self._end = 0

    def take(self, offset: int, payload: bytes | None) -> Command | None:
        """Take the next record; None for one that is no command, or is not of the log so far: it is counted.

        Of a log that was recreated or cut short only stops are taken: books have taken more than it holds, and what
        it tells would never reach them.
        """
        if offset < self._end:
            self.severed = "the control topic was recreated or cut short: end every gateway and look"
        self._end = max(self._end, offset + 1)
        if not is_understood(payload):
            # It may have been the stop of an experiment.
            self.experiments.stop_all(offset, "a command that this version does not understand", "gateway", 0)
        try:
            command = read_command(payload)
        except BadRecord:
            self.bad += 1
            return None
        if self.severed:
            self.experiments.stop_all(offset, self.severed, "gateway", command.at_ns)
            if command.kind == "trading_state" and to_state(command.value) is not TradingState.ACTIVE:
                self._latch(command)
            self.bad += 1
            return None
        if command.kind == "trading_state":
            self._latch(command)
        elif command.kind == "limits":
            self.newest, self.refused = (offset, command), ""
        elif command.kind == "experiment":
            self.experiments.take(offset, command.value, command.by, command.reason, command.at_ns)
        return command

    def limits(self) -> tuple[Command, LimitsFile] | None:
        """The limits that were set last, and who set them; None where nobody has.

        Raises:
            ConfigurationError: they are not understood.
        """
        if self.newest is None:
            return None
        try:
            return self.newest[1], read_limits(self.newest[1].value)
        except BadRecord as error:
            self.refuse(str(error))
            raise ConfigurationError(self.refused) from None

    def refuse(self, why: str) -> None:
        """The limits that were set last cannot be used."""
        if self.newest is not None:
            offset, command = self.newest
            self.refused = (
                f"the limits that were set last (offset {offset} of the control topic, by {command.by}) are not "
                f"understood: {why}; use a gateway that knows them, or set others with "
                "`ultrathink risk limits apply`"
            )

    @property
    def problem(self) -> str:
        """Why this gateway does not do as it was told last; "" where it does."""
        return self.severed or self.refused

    def _latch(self, command: Command) -> None:
        told = LatchedState(to_state(command.value), command.reason, command.by, command.at_ns)
        self.latched = folded(self.latched, told)

    def state(self) -> LatchedState | None:
        """The trading state; at least REDUCING while there is a problem."""
        if not self.problem:
            return self.latched
        reducing = LatchedState(TradingState.REDUCING, self.problem, "gateway")
        if self.latched is None:
            return reducing
        return max(reducing, self.latched, key=lambda latched: SEVERITY[latched.state])
