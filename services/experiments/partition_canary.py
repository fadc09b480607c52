"""What a canary's arms did on the desk itself, in a partition, by block of event time: as its decisions tell."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from services.experiments.lots import Lots
from trading.decision.schema import Action, Decision, Reason
from trading.experiments.arms import Fallback
from trading.experiments.assignment import CanaryArms, experiment_named, name_of
from trading.experiments.definition import CHAMPION, ExperimentDefinition
from trading.risk.limits import LimitSet
from trading.state.applied import CommandLog

#: Latencies are counted in steps of a twentieth, from a hundredth of a millisecond on.
STEP, LEAST_MS = math.log(1.05), 0.01


class LiveArm(Struct, array_like=True):
    """What an arm did in a block of a partition.

    Attributes:
        units: symbols of which it had rows.
        rows: ticks that were its.
        answered: of them, those with a target.
        errors: of them, those that the champion decided because its model gave no usable answer.
        orders, denied: that were wanted, and of them those that risk denied.
        flips: rows whose target has another sign than the last one of their unit.
        traded, profit: money; see `Lots`.
        latencies: step -> rows that took so long from polling to deciding, the champion's without what they waited
            for challengers.
    """

    units: int = 0
    rows: int = 0
    answered: int = 0
    errors: int = 0
    orders: int = 0
    denied: int = 0
    flips: int = 0
    traded: float = 0.0
    profit: float = 0.0
    latencies: dict[int, int] = {}


class LiveOutcome(Struct, frozen=True, array_like=True):
    """What became of a canary's units in a block of a partition.

    Attributes:
        partition, block: which.
        capital: of the partition's book, in money.
        share: of the units, that all challengers together were to have.
        whole: whether all of the block was divided so.
        arms: the champion's, and each challenger's.
    """

    partition: int
    block: int
    capital: float
    share: float
    whole: bool
    arms: tuple[LiveArm, ...]


class CanaryState(Struct):
    """What a partition's canary has come to.

    Attributes:
        partition: of the ticks.
        block: that goes on; negative before the first tick.
        control_to: how far the control topic was taken.
        limits: in force, encoded.
        lots: positions by their openers.
        signs: symbol -> the last target's sign.
        worth: of each arm, in money, where the block began.
        arms: of each arm, so far in this block.
        units: symbol -> the arm that it was given to in this block.
        broken: whether a row of the block was divided by nobody.
    """

    partition: int
    block: int
    control_to: int
    limits: bytes
    lots: Lots
    signs: dict[str, float]
    worth: list[float]
    arms: list[LiveArm]
    units: dict[str, int]
    broken: bool = False


class PartitionCanary:
    """Counts a partition's decisions by arm and block: no model is asked, and no tick read."""

    def __init__(
        self,
        partition: int,
        experiment: ExperimentDefinition,
        arms: Callable[[], CanaryArms],
        limits: LimitSet,
        commands: CommandLog,
    ) -> None:
        """Nothing was decided yet.

        Args:
            partition: of the ticks.
            experiment: whose arms are counted.
            arms: how its units are divided, by now.
            limits: before any command.
            commands: where limits are read from.
        """
        self._name, self._arms, self._commands, self._limits = experiment.name, arms, commands, limits
        self._places = {name: place for place, name in enumerate(experiment.arms)}
        self._cost = (experiment.costs.fee_bps + experiment.costs.slippage_bps) * 1e-4
        n = len(self._places)
        zeros = [0.0] * n
        self._state = CanaryState(partition, -1, 0, b"", Lots.of(n), {}, zeros, [LiveArm() for _ in range(n)], {})

    @property
    def block(self) -> int:
        """The one that goes on; negative before the first tick."""
        return self._state.block

    def dump(self) -> CanaryState:
        """What it has come to: not a copy, it is to be written before anything more is taken."""
        self._state.limits = self._limits.encode()
        return self._state

    def load(self, state: CanaryState) -> None:
        """Go on from there. Raises BadRecord and ConfigurationError where its limits are of another version."""
        self._limits, self._state = LimitSet.decode(state.limits), state

    def take(self, decisions: Sequence[Decision]) -> Iterator[LiveOutcome]:
        """Decisions in the order of their log; the blocks that they ended. Raises ServiceUnavailable."""
        length = self._arms().block_ns
        for decision in decisions:
            # Time does not go back: a tick that comes late is of the block that it comes in.
            block = max(self.block, decision.event_time_ns // length)
            if block != self.block:
                yield from self.pass_to(block)
            self._take_limits(decision.control_to)
            self._count(decision, block)

    def pass_to(self, block: int) -> Iterator[LiveOutcome]:
        """What lies before `block` has ended here; nothing is told of one without any of its units."""
        if self.block < block:
            if self.block >= 0 and (found := self._close()) is not None:
                yield found
            self._state.block = block

    def _take_limits(self, control_to: int) -> None:
        if control_to > self._state.control_to:
            for _, limits in self._commands.commands(self._state.control_to, control_to):
                self._limits = limits or self._limits
            self._state.control_to = control_to

    def _count(self, decision: Decision, block: int) -> None:
        divided = self._arms()
        step = divided.step_at(block)
        mine = experiment_named(decision.experiment) == self._name
        arm = self._places.get(decision.assigned, 0) if mine else 0
        mid = math.nan if decision.mid_price is None else decision.mid_price
        traded = self._fill(decision, arm, (mid, self._limits.rate(decision.symbol)))
        # One that comes late is of the unit of its own time.
        of_block = decision.event_time_ns // divided.block_ns == block
        if of_block and divided.has(decision.symbol):
            # A gateway that heard of a share late divides by the one before, or by none.
            named = "" if step is None else name_of(self._name, step.offset)
            self._state.broken |= decision.experiment != named
        if mine:
            self._state.arms[arm].traded += traded
            if of_block:
                self._state.units.setdefault(decision.symbol, arm)
            count(self._state.arms[arm], decision, flips=self._flips(decision))

    def _close(self) -> LiveOutcome | None:
        """What became of the block that ends; None where no unit of it was this experiment's."""
        s, step = self._state, self._arms().step_at(self.block)
        worth, n = s.lots.worth().tolist(), len(self._places)
        found = None
        if s.units and step is not None:
            arms = tuple(
                replace(one, units=sum(arm == k for arm in s.units.values()), profit=worth[k] - s.worth[k])
                for k, one in enumerate(s.arms)
            )
            capital = self._limits.book.capital
            found = LiveOutcome(s.partition, self.block, capital, step.share, not s.broken, arms)
        s.worth = worth
        # A switch of arms is no change of a mind.
        s.signs = {}
        s.arms, s.units, s.broken = [LiveArm() for _ in range(n)], {}, False
        return found

    def _fill(self, decision: Decision, arm: int, mark: tuple[float, float]) -> float:
        """Take what a decision traded; money, 0 where it did not."""
        lots = self._state.lots
        if lots.knows(decision.symbol):
            lots.mark(decision.symbol, *mark)
        else:
            lots.begin(decision.symbol, decision.position_before, mark)
        if decision.action is Action.HOLD or decision.reference_price is None:
            return 0.0
        lots.fill(decision.symbol, arm, decision.quantity, (decision.reference_price, mark[1]), self._cost)
        return abs(decision.quantity) * decision.reference_price * mark[1]

    def _flips(self, decision: Decision) -> bool:
        target = decision.target_position
        sign = 0.0 if target is None else float(np.sign(target))
        before = self._state.signs.get(decision.symbol, 0.0)
        if sign:
            self._state.signs[decision.symbol] = sign
        return bool(sign and before and sign != before)


def count(arm: LiveArm, decision: Decision, *, flips: bool) -> None:
    """One more of an arm's rows."""
    stages = decision.stages
    # What a batch waited for a challenger is the challenger's, also where rows of the champion waited with it.
    waited_us = stages.waited_us if decision.assigned == CHAMPION else 0.0
    step = step_of((stages.features_us + stages.inference_us + stages.decide_us - waited_us) / 1e3)
    arm.rows += 1
    arm.answered += decision.target_position is not None
    # Another champion is no fault of the challenger's, nor is a server that answered nobody.
    failed = decision.fallback not in {"", Fallback.CHAMPION_CHANGED}
    arm.errors += failed and decision.model_version != ""
    arm.orders += decision.verdict is not None
    arm.denied += decision.reason is Reason.DENIED
    arm.flips += flips
    arm.latencies[step] = arm.latencies.get(step, 0) + 1


def step_of(milliseconds: float) -> int:
    """The step that a latency is counted in."""
    return max(0, math.ceil(math.log(max(milliseconds, LEAST_MS) / LEAST_MS) / STEP))


def percentile(latencies: dict[int, int], share: float) -> float:
    """Milliseconds that so great a share of the rows took at most, to a twentieth; NaN of none."""
    wanted, seen = share * sum(latencies.values()), 0
    for step, count in sorted(latencies.items()):
        seen += count
        if seen >= wanted:
            return LEAST_MS * math.exp(step * STEP)
    return math.nan
