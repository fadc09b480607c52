"""The whole path, run into nowhere until it is as quick as it gets, so that a desk's first ticks are no slower.

Servers that have just started run what they never ran before: their first hundred calls cost several times what
later ones do, and a tick has 50 ms.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

from msgspec import Struct

from gateway.ports import Clock

#: Rows of each round, over and over: a lone tick, and what gathers under load.
SIZES = (1, 8, 32, 128)
#: Rounds that are compared with as many before them: of each size as many in both.
COMPARED = 3 * len(SIZES)
#: A later half that is not this much quicker than the one before it is no quicker.
GAIN = 0.9
#: A share of the budget below which there is nothing to gain.
QUICK = 0.25


class Rehearsed(Struct, frozen=True):
    """How it went.

    Attributes:
        rounds: how many.
        seconds: how long they took together.
        first_ms, last_ms: medians of the first rounds and of the last ones.
        settled: whether rounds had stopped getting quicker; else time was up.
    """

    rounds: int
    seconds: float
    first_ms: float
    last_ms: float
    settled: bool


def rehearse(
    play: Callable[[int], None], clock: Clock, longest_s: float, budget_s: float, said: Callable[[str], None]
) -> Rehearsed:
    """Play rounds until they are quick, or get no quicker, or time is up.

    Args:
        play: one round of so many rows; returns when its answers can be read.
        clock: where time comes from.
        longest_s: at most so long, but for a round that has begun.
        budget_s: of a tick; rounds that take a quarter of it are quick.
        said: told now and then how far it is.
    """
    began_ns, taken_ms = clock.monotonic_ns(), list[float]()
    spent_s = 0.0
    while spent_s < longest_s:
        round_ns = clock.monotonic_ns()
        play(SIZES[len(taken_ms) % len(SIZES)])
        now_ns = clock.monotonic_ns()
        taken_ms.append((now_ns - round_ns) / 1e6)
        spent_s = (now_ns - began_ns) / 1e9
        said(f"warming up: {len(taken_ms)} rounds, the last took {taken_ms[-1]:.0f} ms")
        if is_settled(taken_ms, budget_s * 1e3):
            return summed_up(taken_ms, spent_s, settled=True)
    return summed_up(taken_ms, spent_s, settled=False)


def is_settled(taken_ms: list[float], budget_ms: float) -> bool:
    """Whether the newest rounds are quick all of them, or no quicker than those before."""
    newest, before = taken_ms[-COMPARED:], taken_ms[-2 * COMPARED : -COMPARED]
    if len(newest) == COMPARED and max(newest) < QUICK * budget_ms:
        return True
    return len(before) == COMPARED and median(newest) > GAIN * median(before)


def summed_up(taken_ms: list[float], seconds: float, *, settled: bool) -> Rehearsed:
    """Of the rounds that were played."""
    first, last = taken_ms[:COMPARED], taken_ms[-COMPARED:]
    return Rehearsed(
        len(taken_ms), seconds, median(first) if first else 0.0, median(last) if last else 0.0, settled
    )
