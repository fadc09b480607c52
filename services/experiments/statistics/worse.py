"""Whether what decides now is known to be so much worse than what decided before that it must be taken back.

Both have books of their own on the same ticks, so that a bad day of the market is no fault of either. Each question
is a mean that is above zero only where the fall is larger than what is borne, and is answered by a confidence
sequence. A model that was better for a month and is worse since yesterday is worse: so sequences begin anew every
STARTS_EVERY blocks, and the j-th start has a share of 1 / (j (j + 1)) of the chance: however often somebody looks,
`alpha` bounds the chance that one is ever accused wrongly.
"""

from __future__ import annotations

import math

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from services.experiments.statistics.guardrail import FEWEST_BLOCKS, looks_until
from services.experiments.statistics.sequence import ConfidenceSequence
from trading.arrays import FloatArray

UTILITY, HIT_RATE, VOLATILITY = "net utility", "hit rate", "volatility"
UNVALUED = "blocks without a value"
#: One may be a price that was missing for a moment.
MOST_UNVALUED = 5
STARTS_EVERY = 100
#: But for the first, a sequence lasts so long: the next ones have begun by then.
LASTS = 1_000


class WorseRules(Struct, frozen=True):
    """What is borne.

    Attributes:
        utility, hit_rate: falls, as shares of what they were before.
        volatility: rise of the deviation of a block's return, as a share of what it was.
        alpha: chance that any of them is ever taken for known where it is not so.
        planned: blocks after which an answer is wanted.
    """

    utility: float = 0.3
    hit_rate: float = 0.4
    volatility: float = 0.5
    alpha: float = 0.05
    planned: int = 400


class KnownWorse(Struct, frozen=True):
    """What is known to be worse, since which block, after how many, and by how much: means over them.

    Attributes:
        what: UTILITY, HIT_RATE or VOLATILITY; or UNVALUED, where `now` is a number of blocks.
        first, blocks: the blocks that have shown it: the first one's number, from 0, and how many.
        before, now: basis points a block, share of blocks with a gain, or basis points.
        borne: share of `before` by which it may differ.
    """

    what: str
    first: int
    blocks: int
    before: float
    now: float
    borne: float

    @property
    def sentence(self) -> str:
        """For a person."""
        if self.what == UNVALUED:
            return f"{self.now:.0f} of {self.blocks:,} blocks could not be valued, and could of what decided before"
        less = "more" if self.what == VOLATILITY else "less"
        unit = "" if self.what == HIT_RATE else " bp a block"
        over = f"over {self.blocks:,} blocks" + (f" from the {self.first + 1:,}th on" if self.first else "")
        known = f"{over} it is known to be more than {self.borne:.0%} {less}"
        return f"{self.what} is {self.now:.3g}{unit}, and was {self.before:.3g} before: {known}"


class WorseWatch:
    """Looks at pairs of blocks as they come; what it finds is a function of them alone, however often it looks."""

    def __init__(self, rules: WorseRules) -> None:
        """Nothing was seen yet."""
        self._rules = rules
        #: (question, start) -> blocks up to which nothing was known.
        self._seen: dict[tuple[str, int], int] = {}
        #: Of utility two questions must both be answered: start -> blocks after which each was.
        self._fallen: dict[tuple[str, int], int] = {}

    def look(self, now: FloatArray, before: FloatArray) -> KnownWorse | None:
        """The first that is known; None where nothing is.

        Args:
            now, before: float64 [n], net basis points a block of what decides now and of what did, on the same
                blocks, all from the first on. A block that is not known of both says nothing; where MOST_UNVALUED
                of STARTS_EVERY in a row are not known of `now` alone, they accuse it.
        """
        unvalued = np.flatnonzero(np.isnan(now) & ~np.isnan(before))
        spans = unvalued[MOST_UNVALUED - 1 :] - unvalued[: unvalued.size - MOST_UNVALUED + 1] + 1
        if (close := np.flatnonzero(spans <= STARTS_EVERY)).size:
            first = int(close[0])
            return KnownWorse(UNVALUED, int(unvalued[first]), int(spans[first]), 0.0, float(MOST_UNVALUED), 0.0)
        told = np.flatnonzero(~np.isnan(now) & ~np.isnan(before))
        mine, its = now[told], before[told]
        found = [
            (start + blocks, what, start, blocks)
            for what, harms in self._questions(mine, its).items()
            for start in range(0, max(1, len(mine) - FEWEST_BLOCKS + 1), STARTS_EVERY)
            if (blocks := self._known(what, start, harms)) is not None
        ]
        if not found:
            return None
        _, what, start, blocks = min(found)
        known = self._found(what, start, start + blocks, mine, its)
        # As a person counts: those without a value, too.
        return replace(known, first=int(told[start]))

    def _questions(self, mine: FloatArray, its: FloatArray) -> dict[str, list[FloatArray]]:
        """What must each have a mean above zero, for this to be known; where the last good one loses, 30 % worse is
        a larger loss.
        """
        rules = self._rules
        # Where the last good one had nothing at stake its volatility is none that another could be compared with.
        staked = np.diff(its, prepend=0.0) != 0.0
        wilder = np.where(staked, squared_steps(mine) - (1.0 + rules.volatility) ** 2 * squared_steps(its), 0.0)
        return {
            UTILITY: [(1.0 + sign * rules.utility) * its - mine for sign in (-1.0, 1.0)],
            HIT_RATE: [(1.0 - rules.hit_rate) * gains(its) - gains(mine)],
            VOLATILITY: [wilder],
        }

    def _known(self, what: str, start: int, harms: list[FloatArray]) -> int | None:
        """After how many blocks from a start on all of it is known; None where it is not."""
        after = []
        for k, harm in enumerate(harms):
            blocks = self._above(f"{what}/{k}", start, harm[start : start + LASTS] if start else harm)
            if blocks is None:
                return None
            after.append(blocks)
        return max(after)

    def _above(self, name: str, start: int, values: FloatArray) -> int | None:
        """After how many blocks their mean is known to be above zero; None where it is not."""
        key = (name, start)
        if key in self._fallen:
            return self._fallen[key]
        j = start // STARTS_EVERY + 1
        # Three questions share the chance, and all starts.
        alpha = self._rules.alpha / 3.0 / (j * (j + 1))
        sequence = ConfidenceSequence(self._rules.planned, alpha, lower_only=True, fewest=FEWEST_BLOCKS)
        for blocks in looks_until(len(values)):
            if blocks <= self._seen.get(key, 0):
                continue
            self._seen[key] = blocks
            interval = sequence.look(values[:blocks])
            # What was always alike has no interval, and needs none.
            alike = not interval.variance and bool((values[:blocks] == values[0]).all())
            if (interval.mean if alike else interval.lower) > 0.0:
                self._fallen[key] = blocks
                return blocks
        return None

    def _found(self, what: str, first: int, end: int, mine: FloatArray, its: FloatArray) -> KnownWorse:
        borne = {UTILITY: self._rules.utility, HIT_RATE: self._rules.hit_rate, VOLATILITY: self._rules.volatility}
        was, is_now = (measured(what, values[first:end]) for values in (its, mine))
        return KnownWorse(what, first, end - first, was, is_now, borne[what])


def known_worse(now: FloatArray, before: FloatArray, rules: WorseRules) -> KnownWorse | None:
    """What a watch that looks once finds; see `WorseWatch.look`."""
    return WorseWatch(rules).look(now, before)


def gains(net_bps: FloatArray) -> FloatArray:
    """1 of a block with a gain, 0 of one with a loss, a half of one with neither; NaN stays what it is."""
    found: FloatArray = 0.5 * (np.sign(net_bps) + 1.0)
    return found


def squared_steps(net_bps: FloatArray) -> FloatArray:
    """Half the squared difference from the block before, float64 [n], whose mean is the variance about the mean,
    whatever that is (von Neumann 1941); 0 for the first.
    """
    found: FloatArray = 0.5 * np.diff(net_bps, prepend=net_bps[:1]) ** 2
    return found


def measured(what: str, net_bps: FloatArray) -> float:
    """Over blocks."""
    if what == HIT_RATE:
        return float(gains(net_bps).mean())
    return float(net_bps.mean()) if what == UTILITY else math.sqrt(float(squared_steps(net_bps).mean()))
