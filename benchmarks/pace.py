"""How quick the machine itself was meanwhile: a rented one shares its processors with others, and says nothing."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from msgspec import Struct

EVERY_S = 20.0
#: Some 20 ms of one processor, of what interpreters do: it feels a neighbour on the same core.
ADDITIONS = 500_000


class Pace(Struct, frozen=True):
    """Milliseconds of processor time that one fixed piece of work took, as it was asked for again and again.

    It is time that the system says the work had, not time that it waited among ours: what varies is the machine.
    """

    best_ms: float
    median_ms: float
    worst_ms: float

    def __str__(self) -> str:
        """A sentence's middle."""
        times = self.worst_ms / self.best_ms
        return (
            f"a fixed piece of work took {self.best_ms:.1f} ms of a processor at best, {self.median_ms:.1f} in the "
            f"middle, {self.worst_ms:.1f} at worst ({times:.1f} times the best)"
        )


class Pacer:
    """What was measured so far."""

    def __init__(self) -> None:
        """Nothing yet."""
        self._took_ms: list[float] = []

    def measure(self) -> None:
        """Do the work once."""
        began = time.thread_time()
        work()
        self._took_ms.append((time.thread_time() - began) * 1e3)

    @property
    def count(self) -> int:
        """How often it was measured."""
        return len(self._took_ms)

    def pace(self) -> Pace:
        """Of what was measured, once at least."""
        found = self._took_ms
        return Pace(round(min(found), 2), round(statistics.median(found), 2), round(max(found), 2))


def work() -> int:
    """Always the same."""
    total = 0
    for number in range(ADDITIONS):
        total += number
    return total


@contextmanager
def paced(every_s: float = EVERY_S) -> Iterator[Pacer]:
    """Measure now, and every so many seconds until this ends."""
    pacer, ending = Pacer(), threading.Event()
    pacer.measure()

    def again() -> None:
        while not ending.wait(every_s):
            pacer.measure()

    thread = threading.Thread(target=again, name="pace", daemon=True)
    thread.start()
    try:
        yield pacer
    finally:
        ending.set()
        thread.join()
