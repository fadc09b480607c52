"""A canary's blocks that have ended everywhere, and what is compared of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from msgspec import Struct
from msgspec.structs import asdict

from services.experiments.partition_canary import LiveArm, LiveOutcome, percentile
from services.experiments.statistics.covariate import adjusted
from services.experiments.statistics.sample_ratio import SampleRatio
from trading.arrays import BoolArray, FloatArray, Int64Array


class LiveDump(Struct, frozen=True, array_like=True):
    """A copy of a series."""

    waiting: list[LiveOutcome]
    ended: list[LiveOutcome]


class LiveSeries:
    """Collects what became of each partition's units; a block counts once it has ended everywhere, and stays.

    A block of which only a part was divided, where a share came late, is left out.
    """

    def __init__(self, arms: Sequence[str], partitions: int) -> None:
        """Nothing has ended yet.

        Args:
            arms: the champion's, and each challenger's.
            partitions: that the desk's account is divided among.
        """
        self._arms, self._partitions = tuple(arms), partitions
        self._waiting: list[LiveOutcome] = []
        self._ended: list[LiveOutcome] = []
        #: Of each block that has ended, float64 [arms, metrics]: a guardrail looks at all of them with every block.
        self._metrics: list[FloatArray] = []

    def add(self, outcome: LiveOutcome) -> None:
        """Of one partition."""
        self._waiting.append(outcome)

    def end(self, through: int) -> int:
        """No partition tells of a block up to this one any more; returns how many blocks there are now."""
        over = [one for one in self._waiting if one.block <= through]
        self._waiting = [one for one in self._waiting if one.block > through]
        for block in sorted({one.block for one in over}):
            found = [one for one in over if one.block == block]
            if all(one.whole for one in found):
                self._append(together(found, self._partitions))
        return len(self._ended)

    def dump(self) -> LiveDump:
        """A copy."""
        return LiveDump(list(self._waiting), list(self._ended))

    def load(self, dump: LiveDump) -> None:
        """Go on from a copy."""
        self._waiting, self._ended, self._metrics = list(dump.waiting), [], []
        for one in dump.ended:
            self._append(one)

    @property
    def blocks(self) -> Int64Array:
        """int64 [n], their numbers since 1970."""
        return np.array([one.block for one in self._ended], np.int64)

    def compared(self, challenger: int) -> tuple[Mapping[str, FloatArray], Mapping[str, FloatArray]]:
        """The champion's and a challenger's metrics by name, float64 [n] each, as in a definition's guardrails.

        Turnover is what all units would have come to, by those that an arm had. Where one of the two had no rows
        both are NaN: nothing is compared, but for errors, of which the champion's are none then. Drawdown is not
        among them: of two that are alike, and have other units, luck makes one's greater; the shadow's is paired.
        """
        table = np.array(self._metrics).reshape(len(self._metrics), len(self._arms), len(METRICS))
        metrics = [dict(zip(METRICS, table[:, place].T, strict=True)) for place in (0, challenger)]
        rows = metrics[0]["rows"], metrics[1]["rows"]
        both = rows[0] * rows[1] > 0.0
        champion, found = ({n: np.where(both, v, np.nan) for n, v in one.items()} for one in metrics)
        # What a challenger does not answer needs no champion beside it: without rows it has failed at none.
        for one, told in zip(metrics, (champion, found), strict=True):
            told["error_rate"] = np.where(rows[1] > 0.0, one["error_rate"], np.nan)
        return champion, found

    def differences(self, challenger: int, virtual: Mapping[int, Sequence[float]]) -> FloatArray:
        """Net basis points of the capital a block, challenger's less champion's, float64 [n].

        Unbiased whatever the shares are (D. Horvitz, D. Thompson, JASA 1952), and without what the champion's
        virtual book explains, which no arm moves (see `covariate`). Blocks that one of both could not have are left
        out, and so are those that the virtual book has not come to.

        Args:
            challenger: its place among the arms.
            virtual: block -> money that the champion's virtual book earned in each arm's units.
        """
        shares = np.stack([self._shares(place) for place in (0, challenger)])
        known = np.array([one.block in virtual for one in self._ended], np.bool_)
        could: BoolArray = np.logical_and.reduce([shares[0] > 0.0, shares[1] > 0.0, known])
        unknown = [0.0] * len(self._arms)
        told = np.array([virtual.get(one.block, unknown) for one in self._ended]).reshape(-1, len(self._arms))
        profit, explained = (
            np.subtract(self._scaled(of(challenger), challenger, could), self._scaled(of(0), 0, could))
            for of in (lambda place: self._column(lambda arm: arm.profit, place), lambda place: told[:, place])
        )
        return adjusted(profit, np.nan_to_num(explained))

    def column(self, name: str, place: int) -> FloatArray:
        """Of an arm, a number by its name in `LiveArm`, float64 [n]."""
        return self._column(lambda arm: getattr(arm, name), place)

    @property
    def shares(self) -> FloatArray:
        """Of the units, that all challengers together were to have, float64 [n]."""
        return np.array([one.share for one in self._ended], np.float64)

    def total(self, name: str, place: int) -> int:
        """Of all blocks, of an arm's `rows` or `errors`."""
        return int(self.column(name, place).sum())

    def sample_ratio(self, challenger: int) -> SampleRatio:
        """Evidence that a challenger was not given its share of the units."""
        found = SampleRatio()
        for one, wanted in zip(self._ended, self._shares(challenger).tolist(), strict=True):
            units = sum(arm.units for arm in one.arms)
            found.add(units, one.arms[challenger].units, wanted)
        return found

    def _shares(self, place: int) -> FloatArray:
        whole = self.shares
        shares: FloatArray = whole / (len(self._arms) - 1) if place else 1.0 - whole
        return shares

    def _scaled(self, money: FloatArray, place: int, of: BoolArray) -> FloatArray:
        """A sum in basis points of the capital, as if all units had been the arm's, of some blocks."""
        found: FloatArray = money[of] / self._capital[of] / self._shares(place)[of] * 1e4
        return found

    @property
    def _capital(self) -> FloatArray:
        return np.array([one.capital for one in self._ended], np.float64)

    def _column(self, value: Callable[[LiveArm], float], place: int) -> FloatArray:
        return np.array([value(one.arms[place]) for one in self._ended], np.float64)

    def _append(self, block: LiveOutcome) -> None:
        self._ended.append(block)
        units = sum(arm.units for arm in block.arms)
        self._metrics.append(np.array([metrics_of(arm, units, block.capital) for arm in block.arms]))


#: Of an arm in a block.
METRICS = ("rows", "denial_rate", "error_rate", "flip_rate", "turnover", "p99_ms")


def metrics_of(arm: LiveArm, units: int, capital: float) -> tuple[float, ...]:
    """What is compared of it, as `METRICS` names it.

    Args:
        arm: what it did.
        units: of all arms.
        capital: of all books, in money.
    """
    return (
        arm.rows, part(arm.denied, arm.orders), part(arm.errors, arm.rows), part(arm.flips, arm.answered),
        part(part(arm.traded, arm.units) * units, capital), percentile(arm.latencies, 0.99),
    )  # fmt: skip


def part(some: float, whole: float) -> float:
    """Of a whole; 0 of nothing."""
    return some / whole if whole else 0.0


def together(outcomes: Sequence[LiveOutcome], partitions: int) -> LiveOutcome:
    """A block of all partitions."""
    first = outcomes[0]
    arms = tuple(summed([one.arms[k] for one in outcomes]) for k in range(len(first.arms)))
    return LiveOutcome(-1, first.block, outcomes[-1].capital * partitions, first.share, whole=True, arms=arms)


def summed(arms: Sequence[LiveArm]) -> LiveArm:
    """One arm of several partitions."""
    names = [name for name in LiveArm.__struct_fields__ if name != "latencies"]
    latencies: Counter[int] = Counter()
    for arm in arms:
        latencies.update(arm.latencies)
    told = [asdict(arm) for arm in arms]
    return LiveArm(**{name: sum(one[name] for one in told) for name in names}, latencies=dict(latencies))
