"""What a canary's blocks say of each challenger on the desk itself: its guardrails, its units, its own difference.

The verdict is the shadow's, whose outcomes are paired tick by tick; here is what only the desk can show.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from services.experiments.block_series import BlockSeries
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


def evaluate_live(experiment: ExperimentDefinition, live: LiveSeries, shadow: BlockSeries) -> list[LiveChallenger]:
    """What the blocks so far say; a function of them alone, however often it was asked.

    Args:
        experiment: whose challengers they are.
        live: the desk's blocks.
        shadow: what the champion's virtual book earned in them; those that it has not come to are in no interval.
    """
    return [
        of_challenger(experiment, one, place, (live, shadow)) for place, one in enumerate(experiment.challengers, 1)
    ]


def desk_harm(experiment: ExperimentDefinition, live: LiveSeries) -> str:
    """Why a challenger must not go on, by the desk's blocks alone; "" where nothing shows that."""
    for place, one in enumerate(experiment.challengers, 1):
        ratio = live.sample_ratio(place)
        split = (ratio.treated, ratio.expected) if ratio.is_broken(RATIO_ALPHA) else None
        if why := harms(one.arm, live_guards(experiment, place, live), split):
            return why
    return ""


def live_guards(experiment: ExperimentDefinition, place: int, live: LiveSeries) -> list[GuardedOutcome]:
    """A challenger's guardrails, of those that the desk's own rows have."""
    # As many again as the shadow's guardrails: together they keep the chance that was promised.
    alpha = corrected(experiment.alpha, 2 * len(experiment.challengers) * max(1, len(experiment.guardrails)))
    champion, mine = live.compared(place)
    return [guard(one, alpha, champion, mine) for one in experiment.guardrails if one.metric in mine]


def of_challenger(
    experiment: ExperimentDefinition, challenger: Challenger, place: int, blocks: tuple[LiveSeries, BlockSeries]
) -> LiveChallenger:
    """Of the one that stands there among the arms."""
    live, shadow = blocks
    sequence = ConfidenceSequence(
        experiment.planned_blocks, corrected(experiment.alpha, len(experiment.challengers))
    )
    ratio = live.sample_ratio(place)
    return LiveChallenger(
        arm=challenger.arm,
        blocks=len(live.blocks),
        units=ratio.treated,
        expected=ratio.expected,
        rows=live.total("rows", place),
        fallbacks=live.total("errors", place),
        interval=sequence.look(live.differences(place, shadow.virtual)),
        guarded=live_guards(experiment, place, live),
        split=ratio.is_broken(RATIO_ALPHA),
    )


def harms(arm: str, guarded: Sequence[GuardedOutcome], split: tuple[int, float] | None) -> str:
    """Why a challenger must not go on, in a sentence; "" where nothing shows that.

    Args:
        arm: whose.
        guarded: its guardrails.
        split: units that it had, and was to have, where these are too far apart; None where they are not.
    """
    if split is not None:
        return (
            f"{arm} had {split[0]:,} units, and was to have {split[1]:,.0f}: they are not divided as was promised, "
            "and nothing may be concluded from them"
        )
    for one in guarded:
        b = one.breach
        if b is not None:
            seen = f"in block {b.blocks:,}" if b.at_once else f"over its first {b.blocks:,} blocks"
            return (
                f"{arm} does harm on the desk: {seen} its {one.metric} was {b.excess:.4g} above the champion's, "
                f"and {b.bound:g} is allowed"
            )
    return ""
