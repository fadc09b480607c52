"""Whether what decides now is known to be so much worse than what decided before that it must be taken back.

Both have books of their own on the same ticks, so that a bad day of the market is no fault of either. Each question
is a mean that is above zero only where the fall is larger than what is borne, and is answered by a guardrail's
confidence sequence: however often somebody looks, a chance of `alpha` in all that one is ever accused wrongly.
"""

from __future__ import annotations

import math

import numpy as np
from msgspec import Struct

from services.experiments.statistics.guardrail import Breach, Guardrail
from trading.arrays import FloatArray

UTILITY, HIT_RATE, VOLATILITY = "net utility", "hit rate", "volatility"


class WorseRules(Struct, frozen=True):
    """What is borne.

    Attributes:
        utility, hit_rate: falls, as shares of what they were before.
        volatility: rise of the root mean square of a block's return, as a share of what it was.
        alpha: chance that any of them is ever taken for known where it is not so.
        planned: blocks after which an answer is wanted.
    """

    utility: float = 0.3
    hit_rate: float = 0.4
    volatility: float = 0.5
    alpha: float = 0.05
    planned: int = 1_000


class KnownWorse(Struct, frozen=True):
    """What is known to be worse, after how many blocks, and by how much: means over them.

    Attributes:
        what: UTILITY, HIT_RATE or VOLATILITY.
        blocks: that have shown it.
        before, now: basis points a block, share of blocks with a gain, or basis points.
        borne: share of `before` by which it may differ.
    """

    what: str
    blocks: int
    before: float
    now: float
    borne: float

    @property
    def sentence(self) -> str:
        """For a person."""
        less = "more" if self.what == VOLATILITY else "less"
        unit = "" if self.what == HIT_RATE else " bp a block"
        known = f"over {self.blocks:,} blocks it is known to be more than {self.borne:.0%} {less}"
        return f"{self.what} is {self.now:.3g}{unit}, and was {self.before:.3g} before: {known}"


def known_worse(now: FloatArray, before: FloatArray, rules: WorseRules) -> KnownWorse | None:
    """The first that is known; None where nothing is.

    Args:
        now, before: float64 [n], net basis points a block of what decides now and of what did, on the same blocks.
            A block that is not known of either says nothing; one that is not known of `now` alone accuses it.
        rules: what is borne.
    """
    told = np.flatnonzero(~np.isnan(before))
    mine, its = now[told], before[told]
    # Three questions share the chance; where the last good one loses, 30 % worse is a larger loss.
    rail = Guardrail(0.0, math.inf, rules.alpha / 3.0, rules.planned)
    found = []
    falls = [rail.breach((1.0 + sign * rules.utility) * its - mine) for sign in (-1.0, 1.0)]
    if all(falls):
        found.append((UTILITY, max(one.blocks for one in falls if one), rules.utility))
    for what, harm, borne in (
        (HIT_RATE, (1.0 - rules.hit_rate) * gains(its) - gains(mine), rules.hit_rate),
        (VOLATILITY, mine**2 - (1.0 + rules.volatility) ** 2 * its**2, rules.volatility),
    ):
        breach: Breach | None = rail.breach(harm)
        if breach is not None:
            found.append((what, breach.blocks, borne))
    if not found:
        return None
    what, blocks, borne = min(found, key=lambda one: one[1])
    was, is_now = (measured(what, values[:blocks]) for values in (its, mine))
    return KnownWorse(what, blocks, was, is_now, borne)


def gains(net_bps: FloatArray) -> FloatArray:
    """1 of a block with a gain, 0 of one with a loss, a half of one with neither; NaN stays what it is."""
    found: FloatArray = 0.5 * (np.sign(net_bps) + 1.0)
    return found


def measured(what: str, net_bps: FloatArray) -> float:
    """Over blocks."""
    if what == HIT_RATE:
        return float(gains(net_bps).mean())
    return float(net_bps.mean()) if what == UTILITY else math.sqrt(float((net_bps**2).mean()))
