"""What the desk allows, from all to nothing."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct


class TradingState(StrEnum):
    """What the desk allows, from all to nothing. Latched: only a human moves it back to ACTIVE."""

    ACTIVE = "active"
    REDUCING = "reducing"
    HALTED = "halted"
    KILLED = "killed"


def latched_after(before: TradingState | None, told: TradingState) -> TradingState:
    """Only ACTIVE, a human's word, makes a latched state less severe."""
    if before is None or told is TradingState.ACTIVE:
        return told
    return max(before, told, key=SEVERITY.__getitem__)


#: States in arrays and compiled code: how severe each is.
SEVERITY = {state: severity for severity, state in enumerate(TradingState)}
ACTIVE, REDUCING, HALTED, KILLED = SEVERITY.values()


class LatchedState(Struct, frozen=True):
    """The state, and who set it when and why."""

    state: TradingState
    reason: str
    by: str
    at_ns: int = 0
