"""What an experiment's blocks say of each challenger: a verdict, its guardrails, and one sentence first."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from services.experiments.block_series import BlockSeries
from services.experiments.statistics.guardrail import Breach, Guardrail
from services.experiments.statistics.sequence import ConfidenceSequence, Interval
from services.experiments.statistics.verdict import Enough, Verdict, blocks_left, corrected, judge
from trading.arrays import FloatArray
from trading.experiments.definition import CHAMPION, Challenger, ExperimentDefinition, GuardedMetric
from trading.models.signature import REGIMES
from trading.spans import parse_span, span_text

#: Looks that are kept for a plot, at most.
MOST_LOOKS = 100
#: Beyond so many times what there is nobody can say how long it may take.
FORESEEN = 20


class GuardedOutcome(Struct, frozen=True):
    """A guardrail, and what it saw; numbers in the metric's unit, a block.

    Attributes:
        metric: that is guarded.
        champion, challenger: means; NaN without a block.
        tolerance: of their difference.
        breach: harm that was shown; None where none was.
    """

    metric: str
    champion: float
    challenger: float
    tolerance: float
    breach: Breach | None


class ChallengerOutcome(Struct, frozen=True):
    """What is known of one challenger.

    Attributes:
        arm: whose.
        model, version: that was asked.
        sentence: the verdict, for a person.
        verdict: better, worse, equal or undecided.
        interval: of the mean difference of net basis points a block, challenger's less champion's.
        blocks_left: how many more a verdict may take; 0 where it stands, None where nobody can say.
        earned_bps: all it earned after costs, in basis points of the capital.
        guarded: its guardrails.
        looks: intervals as they were, for a plot.
    """

    arm: str
    model: str
    version: int
    sentence: str
    verdict: Verdict
    interval: Interval
    blocks_left: int | None
    earned_bps: float
    guarded: list[GuardedOutcome]
    looks: list[Interval]

    @property
    def breached(self) -> list[GuardedOutcome]:
        """Guardrails that saw harm."""
        return [one for one in self.guarded if one.breach is not None]


class RegimeOutcome(Struct, frozen=True):
    """What became of the blocks of one regime: to be read, and not concluded from: nobody planned to look there.

    Attributes:
        regime: that prevailed in them, as the champion's model saw it; "" where it saw none.
        blocks: how many.
        champion_bps: the champion's mean of net basis points a block.
        differences: arm -> the mean of its difference from that.
    """

    regime: str
    blocks: int
    champion_bps: float
    differences: dict[str, float]


class Evaluation(Struct, frozen=True):
    """What an experiment has come to.

    Attributes:
        name: of the experiment.
        blocks: that have ended everywhere.
        first_ns, end_ns: event time of the first one's beginning and the last one's end; 0 without any.
        champion_bps: all the champion's virtual book earned after costs, in basis points of the capital.
        challengers: in the experiment's order.
        regimes: blocks by what the market was like.
    """

    name: str
    blocks: int
    first_ns: int
    end_ns: int
    champion_bps: float
    challengers: list[ChallengerOutcome]
    regimes: list[RegimeOutcome]

    @property
    def is_decided(self) -> bool:
        """Whether no challenger needs more blocks."""
        return all(one.verdict is not Verdict.UNDECIDED or one.breached for one in self.challengers)


def evaluate(experiment: ExperimentDefinition, series: BlockSeries) -> Evaluation:
    """What the blocks so far say; a function of them alone, however often it was asked."""
    blocks, capital = series.blocks, series.capital
    metrics = {arm: found.metrics(capital) for arm, found in series.arms().items()}
    first_ns = int(blocks[0]) * experiment.block_ns if len(blocks) else 0
    end_ns = (int(blocks[-1]) + 1) * experiment.block_ns if len(blocks) else 0
    return Evaluation(
        experiment.name,
        len(blocks),
        first_ns,
        end_ns,
        float(metrics[CHAMPION]["net_bps"].sum()),
        [
            outcome(experiment, one, metrics[CHAMPION], metrics[one.arm], end_ns - first_ns)
            for one in experiment.challengers
        ],
        by_regime(series.regimes, {arm: found["net_bps"] for arm, found in metrics.items()}),
    )


def by_regime(regimes: Sequence[str], net_bps: Mapping[str, FloatArray]) -> list[RegimeOutcome]:
    """Means of the blocks of each regime.

    Args:
        regimes: n of them, that prevailed in the blocks.
        net_bps: arm -> net basis points a block, float64 [n].
    """
    seen, champion, found = np.array(regimes, np.str_), net_bps[CHAMPION], []
    for regime in [name for name in (*REGIMES, "") if name in regimes]:
        mine = seen == regime
        differences = {arm: float((bps - champion)[mine].mean()) for arm, bps in net_bps.items() if arm != CHAMPION}
        found.append(RegimeOutcome(regime, int(mine.sum()), float(champion[mine].mean()), differences))
    return found


def outcome(
    experiment: ExperimentDefinition,
    challenger: Challenger,
    champion: Mapping[str, FloatArray],
    mine: Mapping[str, FloatArray],
    span_ns: int,
) -> ChallengerOutcome:
    """Of one challenger; metrics by name, float64 [n] each."""
    several = len(experiment.challengers)
    sequence = ConfidenceSequence(experiment.planned_blocks, corrected(experiment.alpha, several))
    enough = Enough(experiment.at_least.blocks, experiment.primary.effect)
    difference = mine["net_bps"] - champion["net_bps"]
    interval = sequence.look(difference)
    verdict = judge(interval, enough)
    left = blocks_left(sequence, interval, enough, FORESEEN * max(interval.blocks, experiment.planned_blocks))
    if span_ns < parse_span(experiment.at_least.span):
        verdict = Verdict.UNDECIDED
        missing = math.ceil((parse_span(experiment.at_least.span) - span_ns) / experiment.block_ns)
        left = None if left is None else max(left, missing)
    guarded = guards(experiment, champion, mine)
    step = max(1, math.ceil(len(difference) / MOST_LOOKS))
    left = 0 if verdict is not Verdict.UNDECIDED else None if left is None else max(1, left)
    unknown = int(np.count_nonzero(~np.isfinite(difference)))
    return ChallengerOutcome(
        arm=challenger.arm,
        model=challenger.model,
        version=challenger.version,
        sentence=harm(challenger.arm, guarded)
        or unvalued(challenger.arm, unknown, len(difference))
        or sentence(experiment, challenger.arm, verdict, interval, left),
        verdict=verdict,
        interval=interval,
        blocks_left=left,
        earned_bps=float(mine["net_bps"].sum()),
        guarded=guarded,
        looks=[sequence.look(difference[:n]) for n in range(step, len(difference) + 1, step)],
    )


def shadow_guards(experiment: ExperimentDefinition, series: BlockSeries) -> list[tuple[str, list[GuardedOutcome]]]:
    """Each challenger's guardrails alone: what must be looked at with every block."""
    capital = series.capital
    metrics = {arm: found.metrics(capital) for arm, found in series.arms().items()}
    return [(one.arm, guards(experiment, metrics[CHAMPION], metrics[one.arm])) for one in experiment.challengers]


def guards(
    experiment: ExperimentDefinition, champion: Mapping[str, FloatArray], mine: Mapping[str, FloatArray]
) -> list[GuardedOutcome]:
    """What a challenger's guardrails saw, of those that a shadow has."""
    families = 2 if experiment.kind == "canary" else 1
    rails = experiment.guardrails
    alpha = corrected(experiment.alpha, families * len(experiment.challengers) * max(1, len(rails)))
    return [guard(rail, alpha, champion, mine) for rail in rails if rail.metric in mine]


def harm(arm: str, guarded: Sequence[GuardedOutcome]) -> str:
    """What the first guardrail that was breached says; "" where none was."""
    for one in guarded:
        if one.breach is None:
            continue
        b = one.breach
        if math.isinf(b.excess):
            return f"{arm} does harm: in block {b.blocks:,} its {one.metric} cannot be told any more."
        allowed = f"above the champion's, and {b.bound:g} is allowed."
        if b.at_once:
            return f"{arm} does harm: in block {b.blocks:,} its {one.metric} was {b.excess:.4g} {allowed}"
        seen = f"over the first {b.blocks:,} blocks its mean {one.metric} is {b.excess:.4g} or more"
        return f"{arm} does harm: {seen} {allowed}"
    return ""


def unvalued(arm: str, unknown: int, blocks: int) -> str:
    """Why nothing is said where blocks cannot be valued; "" where all can."""
    if not unknown:
        return ""
    why = "a position's price, or its currency's rate, was not known then"
    return f"nothing can be said of {arm}: {unknown:,} of {blocks:,} blocks cannot be valued ({why})."


def sentence(
    experiment: ExperimentDefinition, arm: str, verdict: Verdict, interval: Interval, left: int | None
) -> str:
    """The verdict for somebody who has never seen an interval."""
    between = f"between {interval.lower:+.3g} and {interval.upper:+.3g} basis points a block"
    over = f"over {interval.blocks:,} blocks of {experiment.block}, after costs"
    if verdict in {Verdict.BETTER, Verdict.WORSE}:
        told = f"{arm} is {verdict} than the champion: its difference is {between}, {over}"
        effect = experiment.primary.effect
        if min(abs(interval.lower), abs(interval.upper)) >= effect:
            return f"{told}."
        return f"{told}; that it is by more than the {effect:g} which matters is not sure."
    if verdict is Verdict.EQUAL:
        return (
            f"{arm} earns what the champion earns: any difference is {between}, {over}, and less than "
            f"{experiment.primary.effect:g} does not matter."
        )
    if math.isinf(interval.lower):
        return (
            f"nothing can be said of {arm} yet: {interval.blocks:,} blocks of {experiment.block} have ended, and "
            f"{experiment.at_least.blocks:,} with different outcomes are the fewest."
        )
    so_far = f"{arm} may be better or worse: its difference is {between}, {over};"
    if left is None:
        return f"{so_far} nobody can say how many more it takes."
    more = f"{left:,} more ({span_text(left * experiment.block_ns)} of ticks)"
    return f"{so_far} if blocks go on like these, {more} may tell."


def guard(
    rail: GuardedMetric, alpha: float, champion: Mapping[str, FloatArray], mine: Mapping[str, FloatArray]
) -> GuardedOutcome:
    """What one guardrail saw."""
    # Where the champion's cannot be told nothing can be compared, and nobody is accused.
    known = np.flatnonzero(~np.isnan(champion[rail.metric]))
    before, now = champion[rail.metric][known], mine[rail.metric][known]
    breach = Guardrail(rail.tolerance, rail.one_block, alpha).breach(now - before)
    if breach is not None:
        breach = replace(breach, blocks=int(known[breach.blocks - 1]) + 1)
    champions, challengers = (float(np.mean(one)) if len(one) else math.nan for one in (before, now))
    return GuardedOutcome(rail.metric, champions, challengers, rail.tolerance, breach)
