"""What the loop's demo has shown."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from stack.chaos.step_kills import StepKill


class LoopStep(Struct, frozen=True):
    """A step that ended: of which run, when, in seconds since the demo began, and what it came to."""

    run: str
    kind: str
    step: str
    at_s: float
    end: str
    summary: str


class LoopShown(Struct):
    """What the loop came to.

    Attributes:
        steps: that ended, in their order.
        found_after: ticks from the turn to the check that found it; None where none did.
        alarms: what that check told.
        champion, promoted: what decided at first, and what the update became; "" where it became nothing.
        taken_back: why; "" where it was not.
        rollback_s: from what was known to the desk being decided by the last good one.
        same_bytes: whether that is what it was, by the SHA-256 of each of its files.
        kills: of steps, where they were asked for.
        seconds: all of it.
    """

    steps: list[LoopStep]
    found_after: int | None = None
    alarms: list[Any] = []
    champion: str = ""
    promoted: str = ""
    taken_back: str = ""
    rollback_s: float | None = None
    same_bytes: bool = False
    kills: list[StepKill] = []
    seconds: float = 0.0

    @property
    def as_planted(self) -> bool:
        """Whether what was planted was found, learned, and taken back."""
        closed = self.found_after is not None and self.promoted and self.taken_back and self.same_bytes
        return bool(closed) and all(one.ok for one in self.kills)
