"""What a canary's arms did on the desk itself, in a partition, by block of event time: as its decisions tell."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from services.experiments.lots import Lots
from trading.arrays import FloatArray
from trading.decision.schema import Action, Decision, Reason
from trading.experiments.arms import Fallback
from trading.experiments.assignment import CanaryArms, experiment_named, name_of
from trading.experiments.definition import ExperimentDefinition

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
        virtual: money that the champion's virtual book earned in its units: no arm moves it.
        latencies: step -> rows that took so long from polling to deciding.
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
    virtual: float = 0.0
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
        lots: positions by their openers.
        virtual: of the champion's virtual book, a lot's arm is always 0.
        signs: symbol -> the last target's sign.
        worth: of each arm, in money, where the block began.
        virtual_worth: symbol -> money, where the block began.
        arms: of each arm, so far in this block.
        units: symbol -> the arm that it was given to in this block.
        broken: whether a row of the block was divided by nobody.
    """

    lots: Lots
    virtual: dict[str, Lots]
    signs: dict[str, float]
    worth: list[float]
    virtual_worth: dict[str, float]
    arms: list[LiveArm]
    units: dict[str, int]
    broken: bool = False


class LiveRows(Struct, frozen=True):
    """n decided ticks, and what the market and the champion's virtual book say of them.

    Attributes:
        decisions: as the desk made them.
        mids: float64 [n], of the market then; NaN unknown.
        rates: float64 [n], money a price unit; NaN unknown.
        quantities, prices: float64 [n], what the champion's virtual book traded.
    """

    decisions: Sequence[Decision]
    mids: FloatArray
    rates: FloatArray
    quantities: FloatArray
    prices: FloatArray


class PartitionCanary:
    """Counts a partition's decisions by arm and block."""

    def __init__(self, experiment: ExperimentDefinition, arms: Callable[[], CanaryArms]) -> None:
        """Nothing was decided yet.

        Args:
            experiment: whose arms are counted.
            arms: how its units are divided, by now.
        """
        self._name, self._arms = experiment.name, arms
        self._places = {name: place for place, name in enumerate(experiment.arms)}
        self._cost = (experiment.costs.fee_bps + experiment.costs.slippage_bps) * 1e-4
        n = len(self._places)
        self.state = CanaryState(Lots.of(n), {}, {}, [0.0] * n, {}, [LiveArm() for _ in range(n)], {})

    def take(self, rows: LiveRows, block: int) -> None:
        """Decisions of one block, in order."""
        divided = self._arms()
        step = divided.step_at(block)
        named = "" if step is None else name_of(self._name, step.offset)
        for k, decision in enumerate(rows.decisions):
            mark = float(rows.mids[k]), float(rows.rates[k])
            self._virtual(decision.symbol, float(rows.quantities[k]), float(rows.prices[k]), mark)
            mine = experiment_named(decision.experiment) == self._name
            arm = self._places.get(decision.assigned, 0) if mine else 0
            traded = self._fill(decision, arm, mark)
            # One that comes late is of the unit of its own time.
            of_block = decision.event_time_ns // divided.block_ns == block
            if of_block and divided.has(decision.symbol):
                # A gateway that heard of a share late divides by the one before, or by none.
                self.state.broken |= decision.experiment != named
            if mine:
                self.state.arms[arm].traded += traded
                if of_block:
                    self.state.units.setdefault(decision.symbol, arm)
                count(self.state.arms[arm], decision, flips=self._flips(decision))

    def close(self, partition: int, block: int, capital: float) -> LiveOutcome | None:
        """What became of the block that ends; None where no unit of it was this experiment's."""
        s, step = self.state, self._arms().step_at(block)
        worth, n = s.lots.worth().tolist(), len(self._places)
        virtual = {symbol: float(lots.worth()[0]) for symbol, lots in s.virtual.items()}
        of_units = [0.0] * n
        for symbol, arm in s.units.items():
            of_units[arm] += virtual.get(symbol, 0.0) - s.virtual_worth.get(symbol, 0.0)
        arms = tuple(
            replace(
                one, units=sum(arm == k for arm in s.units.values()), profit=worth[k] - s.worth[k],
                virtual=of_units[k],
            )
            for k, one in enumerate(s.arms)
        )  # fmt: skip
        found = None
        if s.units and step is not None:
            found = LiveOutcome(partition, block, capital, step.share, not s.broken, arms)
        s.worth, s.virtual_worth = worth, virtual
        # A switch of arms is no change of a mind.
        s.signs = {}
        s.arms, s.units, s.broken = [LiveArm() for _ in range(n)], {}, False
        return found

    def _virtual(self, symbol: str, quantity: float, price: float, mark: tuple[float, float]) -> None:
        lots = self.state.virtual.setdefault(symbol, Lots.of(1))
        lots.mark(symbol, *mark)
        if quantity:
            lots.fill(symbol, 0, quantity, (price, mark[1]), self._cost)

    def _fill(self, decision: Decision, arm: int, mark: tuple[float, float]) -> float:
        """Take what a decision traded; money, 0 where it did not."""
        lots = self.state.lots
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
        before = self.state.signs.get(decision.symbol, 0.0)
        if sign:
            self.state.signs[decision.symbol] = sign
        return bool(sign and before and sign != before)


def count(arm: LiveArm, decision: Decision, *, flips: bool) -> None:
    """One more of an arm's rows."""
    stages = decision.stages
    step = step_of((stages.features_us + stages.inference_us + stages.decide_us) / 1e3)
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
