"""What an interval says of a challenger, in one word."""

from __future__ import annotations

import math
from enum import StrEnum

from msgspec import Struct

from services.experiments.statistics.sequence import ConfidenceSequence, Interval


class Verdict(StrEnum):
    """Of a challenger against the champion."""

    BETTER = "better"
    WORSE = "worse"
    EQUAL = "equal"
    UNDECIDED = "undecided"


class Enough(Struct, frozen=True):
    """What must be there before a verdict is one.

    Attributes:
        blocks: with an outcome.
        effect: the smallest difference that matters, above 0, in the outcomes' unit.
    """

    blocks: int
    effect: float


def corrected(alpha: float, challengers: int) -> float:
    """The chance that each of several challengers' verdicts may be wrong with, so that any is with `alpha` at most.

    Bonferroni's bound: it holds however the challengers' outcomes depend on each other.

    Args:
        alpha: of all together, in (0, 1).
        challengers: 1 or more.
    """
    return alpha / challengers


def judge(interval: Interval, enough: Enough) -> Verdict:
    """Better or worse where the interval leaves nothing else, equal where it holds no difference that matters.

    What is too little, or no number, is undecided: it never passes.
    """
    told = (interval.mean, interval.lower, interval.upper)
    if interval.blocks < enough.blocks or any(map(math.isnan, told)):
        return Verdict.UNDECIDED
    if interval.lower > -enough.effect and interval.upper < enough.effect:
        return Verdict.EQUAL
    if interval.lower > 0.0:
        return Verdict.BETTER
    if interval.upper < 0.0:
        return Verdict.WORSE
    return Verdict.UNDECIDED


def blocks_left(sequence: ConfidenceSequence, interval: Interval, enough: Enough, most: int) -> int | None:
    """How many more blocks a verdict may take, if blocks go on as they are; None where that is more than `most`.

    Until the interval leaves 0 on one side or lies within the effect that matters, whichever is sooner, but no
    sooner than there are enough.
    """
    if not interval.variance:
        return None
    distance = max(abs(interval.mean), enough.effect - abs(interval.mean))
    needed = sequence.blocks_until(distance, interval, interval.blocks + most)
    return None if needed is None else max(0, max(needed, enough.blocks) - interval.blocks)
