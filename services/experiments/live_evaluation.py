"""What a canary's blocks say of each challenger on the desk itself: its guardrails, its units, its own difference.

The verdict is the shadow's, whose outcomes are paired tick by tick; here is what only the desk can show.
"""

from __future__ import annotations

from msgspec import Struct

from services.experiments.evaluation import GuardedOutcome, guard
from services.experiments.live_series import LiveSeries
from services.experiments.statistics.sequence import ConfidenceSequence, Interval
from services.experiments.statistics.verdict import corrected
from trading.experiments.definition import Challenger, ExperimentDefinition

#: A split that is not the promised one is told of with this chance where it is: a fault of ours, not of a model's.
RATIO_ALPHA = 0.001


class LiveChallenger(Struct, frozen=True):
    """What a challenger did on the desk.

    Attributes:
        arm: whose.
        blocks: that count.
        units, expected: of which it had rows, and that it was to have.
        rows, fallbacks: that were its, and those that the champion decided all the same.
        interval: of the difference of net basis points a block, as if all units had been one arm's.
        guarded: its guardrails.
        split: whether its units are not those that it was to have.
    """

    arm: str
    blocks: int
    units: int
    expected: float
    rows: int
    fallbacks: int
    interval: Interval
    guarded: list[GuardedOutcome]
    split: bool

    @property
    def breached(self) -> list[GuardedOutcome]:
        """Guardrails that saw harm."""
        return [one for one in self.guarded if one.breach is not None]


def evaluate_live(experiment: ExperimentDefinition, live: LiveSeries) -> list[LiveChallenger]:
    """What the blocks so far say; a function of them alone, however often it was asked."""
    return [of_challenger(experiment, one, place, live) for place, one in enumerate(experiment.challengers, 1)]


def of_challenger(
    experiment: ExperimentDefinition, challenger: Challenger, place: int, live: LiveSeries
) -> LiveChallenger:
    """Of the one that stands there among the arms."""
    several = len(experiment.challengers)
    # As many again as the shadow's guardrails: together they keep the chance that was promised.
    alpha = corrected(experiment.alpha, 2 * several * max(1, len(experiment.guardrails)))
    champion, mine = live.compared(place)
    sequence = ConfidenceSequence(experiment.planned_blocks, corrected(experiment.alpha, several))
    ratio = live.sample_ratio(place)
    return LiveChallenger(
        arm=challenger.arm,
        blocks=len(live.blocks),
        units=ratio.treated,
        expected=ratio.expected,
        rows=live.total("rows", place),
        fallbacks=live.total("errors", place),
        interval=sequence.look(live.differences(place)),
        guarded=[guard(one, alpha, champion, mine) for one in experiment.guardrails if one.metric in mine],
        split=ratio.is_broken(RATIO_ALPHA),
    )


def harms(found: LiveChallenger) -> str:
    """Why a challenger must not go on, in a sentence; "" where nothing shows that."""
    if found.split:
        return (
            f"{found.arm} had {found.units:,} units, and was to have {found.expected:,.0f}: they are not divided "
            "as was promised, and nothing may be concluded from them"
        )
    for one in found.breached:
        b = one.breach
        if b is not None:
            seen = f"in block {b.blocks:,}" if b.at_once else f"over its first {b.blocks:,} blocks"
            return (
                f"{found.arm} does harm on the desk: {seen} its {one.metric} was {b.excess:.4g} above the "
                f"champion's, and {b.bound:g} is allowed"
            )
    return ""
