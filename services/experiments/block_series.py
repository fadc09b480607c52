"""Blocks that have ended everywhere, summed over partitions, and what is compared of them."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from msgspec import Struct

from services.experiments.arm_book import ArmOutcome
from services.experiments.partition_shadow import BlockOutcome
from trading.arrays import FloatArray, Int64Array
from trading.models.signature import REGIMES

_SUMMED = ("rows", "answered", "errors", "orders", "denied", "flips", "traded", "fees", "profit")


class ArmBlocks(Struct, frozen=True):
    """One arm's outcomes by block, float64 [n] each; as in `ArmOutcome`, of all partitions together."""

    rows: FloatArray
    answered: FloatArray
    errors: FloatArray
    orders: FloatArray
    denied: FloatArray
    flips: FloatArray
    traded: FloatArray
    fees: FloatArray
    profit: FloatArray

    def metrics(self, capital: FloatArray) -> Mapping[str, FloatArray]:
        """What is compared of it, float64 [n] each, by the names of an experiment's definition.

        Args:
            capital: float64 [n], of all books together, in money.
        """
        net_bps = self.profit / capital * 1e4
        grown = np.concatenate([[0.0], np.cumsum(np.nan_to_num(net_bps))])
        return {
            "net_bps": net_bps,
            "denial_rate": share(self.denied, self.orders),
            "error_rate": share(self.errors, self.answered + self.errors),
            "flip_rate": share(self.flips, self.answered),
            "turnover": self.traded / capital,
            # A block that cannot be valued is one, and no more: what comes after it goes on from before.
            "drawdown": np.where(np.isnan(net_bps), np.nan, (np.maximum.accumulate(grown) - grown)[1:]),
        }


def share(part: FloatArray, whole: FloatArray) -> FloatArray:
    """Of a whole; 0 of nothing."""
    found: FloatArray = np.divide(part, whole, out=np.zeros(len(whole)), where=whole > 0.0)
    return found


class SeriesDump(Struct, frozen=True, array_like=True):
    """A copy of a series; `rows` are float64 [blocks, arms, .] as bytes."""

    waiting: list[BlockOutcome]
    blocks: list[int]
    capital: list[float]
    rows: bytes
    broken: dict[str, dict[str, int]]
    virtual: dict[int, list[float]]
    regimes: list[list[int]]


class BlockSeries:
    """Collects what became of each partition's blocks; a block counts once it has ended everywhere, and stays."""

    def __init__(self, arms: Sequence[str], partitions: int) -> None:
        """Nothing has ended yet.

        Args:
            arms: the champion's, and each challenger's.
            partitions: that the desk's account is divided among: each has an equal share of its capital.
        """
        self._arms, self._partitions = tuple(arms), partitions
        self._waiting: dict[int, list[BlockOutcome]] = {}
        self._order: list[int] = []
        self._blocks: list[int] = []
        self._capital: list[float] = []
        self._rows: list[FloatArray] = []
        #: Arm -> rule -> how often its orders broke it, in the blocks that have ended.
        self.broken: dict[str, Counter[str]] = {arm: Counter() for arm in arms}
        #: Of a canary: block -> money that the champion's virtual book earned in each arm's units.
        self.virtual: dict[int, list[float]] = {}
        self._regimes: list[list[int]] = []

    def add(self, outcome: BlockOutcome) -> None:
        """Of one partition. Raises ValueError for a block that has ended everywhere already."""
        if self._blocks and outcome.block <= self._blocks[-1]:
            raise ValueError(f"block {outcome.block} has ended: {self._blocks[-1]} was the last")
        if outcome.block not in self._waiting:
            heapq.heappush(self._order, outcome.block)
        self._waiting.setdefault(outcome.block, []).append(outcome)

    def end(self, through: int) -> int:
        """No partition tells of a block up to this one any more; returns how many blocks there are now."""
        while self._order and self._order[0] <= through:
            block = heapq.heappop(self._order)
            found = self._waiting.pop(block)
            self._blocks.append(block)
            self._capital.append(found[-1].capital * self._partitions)
            if virtual := [sum(one) for one in zip(*(one.virtual for one in found), strict=True)]:
                self.virtual[block] = virtual
            self._regimes.append([sum(one) for one in zip(*(one.regimes for one in found), strict=True)])
            for one in found:
                for arm, outcome in zip(self._arms, one.arms, strict=True):
                    self.broken[arm] += Counter(outcome.broken)
            self._rows.append(np.array([summed([one.arms[k] for one in found]) for k in range(len(self._arms))]))
        return len(self._blocks)

    def dump(self) -> SeriesDump:
        """A copy."""
        waiting = [one for block in sorted(self._waiting) for one in self._waiting[block]]
        rows = np.array(self._rows, np.float64).tobytes()
        broken = {arm: dict(counts) for arm, counts in self.broken.items()}
        blocks, capital, regimes = list(self._blocks), list(self._capital), list(self._regimes)
        return SeriesDump(waiting, blocks, capital, rows, broken, dict(self.virtual), regimes)

    def load(self, dump: SeriesDump) -> None:
        """Go on from a copy. Raises ValueError where it is of other arms."""
        if tuple(dump.broken) != self._arms:
            raise ValueError(f"it is of the arms {', '.join(dump.broken)}")
        shape = (len(dump.blocks), len(self._arms), len(_SUMMED))
        self._rows = list(np.frombuffer(dump.rows, np.float64).reshape(shape))
        self._blocks, self._capital = list(dump.blocks), list(dump.capital)
        self.broken = {arm: Counter(counts) for arm, counts in dump.broken.items()}
        self.virtual, self._regimes = dict(dump.virtual), list(dump.regimes)
        self._waiting, self._order = {}, []
        for one in dump.waiting:
            self.add(one)

    @property
    def blocks(self) -> Int64Array:
        """int64 [n], their numbers since 1970."""
        return np.array(self._blocks, np.int64)

    @property
    def capital(self) -> FloatArray:
        """float64 [n], of all books together, in money."""
        return np.array(self._capital, np.float64)

    @property
    def regimes(self) -> list[str]:
        """Of each block the regime that most rows saw, by the champion's model; "" where it saw none."""
        return [REGIMES[int(np.argmax(one))] if sum(one) else "" for one in self._regimes]

    def arms(self) -> dict[str, ArmBlocks]:
        """Arm -> its outcomes by block."""
        table = np.array(self._rows).reshape(len(self._rows), len(self._arms), len(_SUMMED))
        return {arm: ArmBlocks(*table[:, k, :].T) for k, arm in enumerate(self._arms)}


def summed(outcomes: Sequence[ArmOutcome]) -> list[float]:
    """Of all partitions."""
    return [float(sum(getattr(one, name) for one in outcomes)) for name in _SUMMED]
