"""What the champion's virtual book earned in each arm's units: it moves with the market, and no arm moves it."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from services.experiments.lots import Lots
from trading.arrays import FloatArray
from trading.decision.schema import Decision
from trading.experiments.assignment import experiment_named
from trading.experiments.definition import ExperimentDefinition


class VirtualRows(Struct, frozen=True):
    """n decided ticks of one block, and what the champion's virtual book did at them.

    Attributes:
        decisions: as the desk made them.
        mids: float64 [n], of the market then; NaN unknown.
        rates: float64 [n], money a price unit; NaN unknown.
        quantities, prices: float64 [n], what it traded.
    """

    decisions: Sequence[Decision]
    mids: FloatArray
    rates: FloatArray
    quantities: FloatArray
    prices: FloatArray


class VirtualState(Struct):
    """What a partition has come to.

    Attributes:
        lots: symbol -> what is held of it, all of one arm.
        worth: symbol -> money, where the block began.
        units: symbol -> the arm that it was given to in this block.
    """

    lots: dict[str, Lots]
    worth: dict[str, float]
    units: dict[str, int]


class VirtualUnits:
    """Counts a partition's units."""

    def __init__(self, experiment: ExperimentDefinition) -> None:
        """Nothing was decided yet."""
        self._name = experiment.name
        self._places = {name: place for place, name in enumerate(experiment.arms)}
        self._cost = (experiment.costs.fee_bps + experiment.costs.slippage_bps) * 1e-4
        self.state = VirtualState({}, {}, {})

    def take(self, rows: VirtualRows, first_ns: int, end_ns: int) -> None:
        """Decisions of the block of event times from `first_ns` to before `end_ns`, in order."""
        s = self.state
        for k, decision in enumerate(rows.decisions):
            symbol, rate = decision.symbol, float(rows.rates[k])
            lots = s.lots.setdefault(symbol, Lots.of(1))
            lots.mark(symbol, float(rows.mids[k]), rate)
            if quantity := float(rows.quantities[k]):
                lots.fill(symbol, 0, quantity, (float(rows.prices[k]), rate), self._cost)
            # One that comes late is of the unit of its own time.
            if first_ns <= decision.event_time_ns < end_ns and experiment_named(decision.experiment) == self._name:
                s.units.setdefault(symbol, self._places.get(decision.assigned, 0))

    def close(self) -> tuple[float, ...]:
        """Money of each arm's units in the block that ends."""
        s = self.state
        worth = {symbol: float(lots.worth()[0]) for symbol, lots in s.lots.items()}
        found = [0.0] * len(self._places)
        for symbol, arm in s.units.items():
            found[arm] += worth[symbol] - s.worth.get(symbol, 0.0)
        s.worth, s.units = worth, {}
        return tuple(found)
