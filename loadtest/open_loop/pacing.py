"""The open model: what was meant for a moment is sent at that moment, whatever became of what was sent before."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Protocol

from loadtest.open_loop.schedule import Nanoseconds

#: The operating system sleeps no shorter with any accuracy; what falls due meanwhile goes together.
SHORTEST_SLEEP_NS = 200_000
#: Nothing that is polled waits longer than this.
LONGEST_SLEEP_NS = 20_000_000


class PacingClock(Protocol):
    """Time in ns, from any zero, that never steps back."""

    def now_ns(self) -> int:
        """The time."""

    def sleep_ns(self, ns: int) -> None:
        """Let so much pass."""


class Monotonic:
    """The machine's clock, the same in every process on it, and deaf to corrections of the time of day."""

    now_ns = staticmethod(time.monotonic_ns)

    @staticmethod
    def sleep_ns(ns: int) -> None:
        """Let so much pass, or a little more."""
        time.sleep(ns / 1e9)


def pace(
    schedule: Iterable[Nanoseconds],
    send: Callable[[int, int], None],
    clock: PacingClock,
    start_ns: int,
    idle: Callable[[], None] = lambda: None,
) -> int:
    """Send each arrival when it is due; what is overdue goes at once, its intended time unchanged.

    Args:
        schedule: chunks of arrivals, ns after `start_ns`, never decreasing.
        send: called with the arrival's number (from 0) and its intended time by `clock`.
        clock: where time comes from.
        start_ns: the schedule's zero by `clock`.
        idle: called whenever nothing is due; it must not block.

    Returns:
        How many were sent.
    """
    number = 0
    for chunk in schedule:
        for due in (chunk + start_ns).tolist():
            now = clock.now_ns()
            while now < due:
                idle()
                now = clock.now_ns()
                if now < due:
                    clock.sleep_ns(min(max(due - now, SHORTEST_SLEEP_NS), LONGEST_SLEEP_NS))
                    now = clock.now_ns()
            send(number, due)
            number += 1
    return number
