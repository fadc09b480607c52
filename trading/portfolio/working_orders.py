"""Accepted orders that the broker has not finished, and what its reports mean for them."""

from __future__ import annotations

from copy import copy
from typing import Self

import numpy as np
from msgspec import Struct

from trading.arrays import FloatArray, Int64Array
from trading.events import ExecutionReport, ReportKind

#: Orders whose late or repeated reports are still known for what they are. Beyond it every report of an order of
#: ours that is as old as the newest forgotten one counts as a repeat: nothing is counted twice.
MOST_FINISHED = 4096
#: The number of an order that no tick of ours led to: it is known by its id.
FOREIGN = -1
#: What is below any lot is what subtracting has left over.
NOTHING = 1e-9


class WorkingOrder(Struct, array_like=True):
    """An accepted order: its row, the signed quantity that is left, and the next report that is expected."""

    row: int
    left: float
    sequence: int = 0


class OrdersDump(Struct, frozen=True, array_like=True):
    """A copy of what `WorkingOrders` holds."""

    open: dict[int, WorkingOrder]
    finished: dict[int, int]
    foreign: dict[str, int]
    forgotten_to: int


class WorkingOrders:
    """By the order's number.

    Attributes:
        open: those that still work.
        finished: of those that do not, the next report that would be new; the latest `MOST_FINISHED`.
        foreign: the same of orders of others, by their ids.
        forgotten_to: the largest number of those that are no longer known; -1 for none.
    """

    def __init__(self) -> None:
        self.open: dict[int, WorkingOrder] = {}
        self.finished: dict[int, int] = {}
        self.foreign: dict[str, int] = {}
        self.forgotten_to = -1

    def __len__(self) -> int:
        return len(self.open)

    def add(self, number: int, row: int, quantity: float) -> None:
        """An order was accepted."""
        self.open[number] = WorkingOrder(row, quantity)

    def add_all(self, rows: Int64Array, numbers: Int64Array, quantities: FloatArray) -> None:
        """Orders were accepted: rows and numbers int64 [n], quantities float64 [n]; quantity 0 is none."""
        for k in np.flatnonzero(quantities).tolist():
            self.add(int(numbers[k]), int(rows[k]), float(quantities[k]))

    def is_repeated(self, report: ExecutionReport) -> bool:
        """Whether the report was taken before."""
        if report.number == FOREIGN:
            return report.sequence < self.foreign.get(report.order_id, 0)
        if (working := self.open.get(report.number)) is not None:
            return report.sequence < working.sequence
        if (expected := self.finished.get(report.number)) is not None:
            return report.sequence < expected
        return report.number <= self.forgotten_to

    def take(self, report: ExecutionReport) -> tuple[int, float] | None:
        """What a new report ends: the order's row, and the signed quantity that works no longer.

        None for an order that does not work here; its repeats are known from now on.
        """
        if report.number == FOREIGN:
            self.foreign[report.order_id] = report.sequence + 1
            return None
        working = self.open.get(report.number)
        if working is None:
            self._finish(report.number, report.sequence + 1)
            return None
        working.sequence = report.sequence + 1
        return working.row, self._release(report, working)

    def dump(self) -> OrdersDump:
        """A copy."""
        working = {number: copy(one) for number, one in self.open.items()}
        return OrdersDump(working, dict(self.finished), dict(self.foreign), self.forgotten_to)

    @classmethod
    def load(cls, dump: OrdersDump) -> Self:
        """From what `dump` gave."""
        made = cls()
        made.open = {number: copy(one) for number, one in dump.open.items()}
        made.finished, made.foreign = dict(dump.finished), dict(dump.foreign)
        made.forgotten_to = dump.forgotten_to
        return made

    def _release(self, report: ExecutionReport, working: WorkingOrder) -> float:
        left = working.left
        if report.quantity * left < 0.0:
            return 0.0  # of the other side: whatever it was, it was not of this order
        released = left
        if report.kind is ReportKind.FILL and abs(report.quantity) < abs(left):
            released = report.quantity
        working.left = left = left - released
        if abs(left) < NOTHING:
            released += left
            del self.open[report.number]
            self._finish(report.number, working.sequence)
        return released

    def _finish(self, number: int, expected: int) -> None:
        self.finished[number] = expected
        if len(self.finished) > MOST_FINISHED:
            forgotten = next(iter(self.finished))
            del self.finished[forgotten]
            self.forgotten_to = max(self.forgotten_to, forgotten)
