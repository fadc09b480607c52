"""One arm's book of a partition: it decides the ticks by the desk's rules, and pays for what it trades."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from msgspec import Struct

from trading.arrays import CodeArray, FloatArray, Int64Array
from trading.decision.columns import DecisionColumns, TickColumns
from trading.decision.decide import broken_rules, decide
from trading.decision.policy import DecisionPolicy
from trading.decision.schema import CODES, Reason
from trading.events import PartitionEvents
from trading.experiments.definition import TradingCosts
from trading.portfolio.book import Book, BookDump
from trading.risk.engine import DENY
from trading.risk.limits import LimitSet

#: Why a row has no target though its model was asked.
FAILED = tuple(
    CODES[reason] for reason in (Reason.PREDICTOR_TIMEOUT, Reason.PREDICTOR_UNAVAILABLE, Reason.PREDICTOR_INVALID)
)


class SharedTicks(NamedTuple):
    """What n ticks are to every arm alike.

    Attributes:
        symbols: n of them.
        ticks: as the decision takes them; rows of the book, holds and targets are each arm's own, and none here.
        state: severity of the desk's trading state.
        desk_quota: gross exposure that each arm's book may have, in money; NaN where it was not known.
    """

    symbols: Sequence[str]
    ticks: TickColumns
    state: int
    desk_quota: float


class ArmAnswers(NamedTuple):
    """What an arm's model said of n ticks.

    Attributes:
        targets: float64 [n], in [-1, 1] of the position limit; NaN where there is none.
        held: int8 [n], why a tick is held whatever its target; negative where it is not.
    """

    targets: FloatArray
    held: CodeArray

    def part(self, begin: int, end: int) -> ArmAnswers:
        """Of some rows."""
        return ArmAnswers(self.targets[begin:end], self.held[begin:end])


class ArmOutcome(Struct, frozen=True):
    """What became of one arm in a block of a partition.

    Attributes:
        rows: ticks that it decided.
        answered: of them, those with a target.
        errors: of them, those whose model was asked and gave no usable answer.
        orders: that were wanted.
        denied: of them, by risk.
        flips: rows whose target has another sign than the last one of their symbol that had any.
        traded: money, the sum of abs(quantity) x price.
        fees: money, what trading cost beside the spread.
        profit: money, by which positions and cash grew, less fees; NaN where a position could not be valued.
        broken: rule -> how often an order that was wanted broke it.
    """

    rows: int = 0
    answered: int = 0
    errors: int = 0
    orders: int = 0
    denied: int = 0
    flips: int = 0
    traded: float = 0.0
    fees: float = 0.0
    profit: float = 0.0
    broken: Mapping[str, int] = {}


#: Of it, what is counted row by row.
COUNTED = ("rows", "answered", "errors", "orders", "denied", "flips")


class ArmDump(Struct, frozen=True, array_like=True):
    """A copy of an arm's book, and of what was counted since the last close."""

    book: BookDump
    limits: bytes
    signs: list[float]
    counts: dict[str, int]
    traded: list[float]
    broken: dict[str, int]
    begun_with: float


class ArmBook:
    """A virtual book: what risk accepts counts as filled at once, at the touch that stood."""

    def __init__(self, limits: LimitSet, rebalance_band: float, costs: TradingCosts) -> None:
        """An empty book, as the desk's was once.

        Args:
            limits: in force.
            rebalance_band: of the desk's gateways.
            costs: of what is traded.
        """
        self.book = Book(limits)
        self._band, self._cost = rebalance_band, (costs.fee_bps + costs.slippage_bps) * 1e-4
        self._signs = np.zeros(0)
        self._traded: list[FloatArray] = []
        self._broken: Counter[str] = Counter()
        self._begin()

    def dump(self) -> ArmDump:
        """A copy."""
        traded = np.concatenate([np.zeros(0), *self._traded]).tolist()
        return ArmDump(
            self.book.dump(), self.book.limits.encode(), self._signs.tolist(), self._counts, traded,
            dict(self._broken), self._begun_with,
        )  # fmt: skip

    def load(self, dump: ArmDump) -> None:
        """Go on from a copy. Raises ValueError and ConfigurationError where it is of another version."""
        self.book = Book.load(dump.book, LimitSet.decode(dump.limits))
        self._signs = np.array(dump.signs, np.float64)
        self._counts, self._broken = dict(dump.counts), Counter(dump.broken)
        self._traded, self._begun_with = [np.array(dump.traded, np.float64)], dump.begun_with

    def take(self, events: PartitionEvents) -> None:
        """Limits and resets, before the next tick, as the desk's book takes them."""
        for command, limits in events.commands:
            if limits is not None:
                self.book.set_limits(limits)
            elif command.kind == "reset":
                self.book.reset(command.value)

    def decide(self, shared: SharedTicks, answers: ArmAnswers) -> DecisionColumns:
        """Decide n ticks in order."""
        book = self.book
        rows = book.rows(shared.symbols)
        ticks = shared.ticks._replace(rows=rows, held=answers.held, targets=answers.targets)
        policy = DecisionPolicy(book.limits, self._band, assumed_fills=True)
        out = decide(book, ticks, policy.context(book.limits, state=shared.state, desk_quota=shared.desk_quota))
        self._count(rows, answers, out)
        return out

    def close(self) -> ArmOutcome:
        """What became of it since the last close."""
        # Exact, so that no sum depends on how its rows came together.
        traded = math.fsum(np.concatenate([np.zeros(0), *self._traded]).tolist())
        fees = traded * self._cost
        profit = self._worth() - self._begun_with - fees
        found = ArmOutcome(**self._counts, traded=traded, fees=fees, profit=profit, broken=dict(self._broken))
        self._begin()
        return found

    def _begin(self) -> None:
        self._counts = dict.fromkeys(COUNTED, 0)
        self._traded, self._broken = [], Counter()
        self._begun_with = self._worth()

    def _worth(self) -> float:
        """What the book has made so far, in money: capital that limits bring or take is not earned."""
        return self.book.equity - float(self.book.tables.account[0].capital)

    def _count(self, rows: Int64Array, answers: ArmAnswers, out: DecisionColumns) -> None:
        known, positions = np.isfinite(answers.targets) & (answers.held < 0), self.book.tables.positions
        if len(self._signs) < len(positions):
            self._signs = np.concatenate([self._signs, np.zeros(len(positions) - len(self._signs))])
        counted = np.array(
            [
                len(rows), known.sum(), np.isin(answers.held, FAILED).sum(), (out.outcomes >= 0).sum(),
                (out.outcomes == DENY).sum(), flips(rows[known], np.sign(answers.targets[known]), self._signs),
            ]
        )  # fmt: skip
        for name, count in zip(COUNTED, counted.tolist(), strict=True):
            self._counts[name] += count
        self._broken += broken_rules(out)
        is_order = out.quantities != 0.0
        rates = positions.rate[rows[is_order]]
        self._traded.append(np.abs(out.quantities[is_order]) * out.prices[is_order] * rates)


def flips(rows: Int64Array, signs: FloatArray, last: FloatArray) -> int:
    """How many rows have another sign than the last one of their symbol that had any.

    Args:
        rows: int64 [n], each one's symbol.
        signs: float64 [n], of -1, 0 and 1; 0 is none.
        last: float64 [symbols], the last sign of each; it is moved on.
    """
    any_sign = signs != 0.0
    order = np.argsort(rows[any_sign], kind="stable")
    mine, signs = rows[any_sign][order], signs[any_sign][order]
    if not len(mine):
        return 0
    begins = np.concatenate([[True], mine[1:] != mine[:-1]])
    before = np.where(begins, last[mine], np.concatenate([[0.0], signs[:-1]]))
    ends = np.concatenate([begins[1:], [True]])
    last[mine[ends]] = signs[ends]
    return int(np.count_nonzero((before != 0.0) & (before != signs)))
