"""Accepted orders that the broker has not finished, and what its reports mean for them."""

from __future__ import annotations

from copy import copy
from typing import Self

import numpy as np
from msgspec import Struct

from trading.arrays import FloatArray, Int64Array
from trading.events import ExecutionReport, ReportKind

#: Orders whose late or repeated reports are still known for what they are.
MOST_FINISHED = 4096
#: What is below any lot is what subtracting has left over.
NOTHING = 1e-9


class WorkingOrder(Struct, array_like=True):
    """An accepted order: its row, the signed quantity that is left, and the next report that is expected."""

    row: int
    left: float
    sequence: int = 0


class WorkingOrders:
    """By the order's number.

    Attributes:
        open: those that still work.
        finished: of those that do not, the next report that would be new; the latest `MOST_FINISHED`.
    """

    def __init__(self) -> None:
        self.open: dict[int, WorkingOrder] = {}
        self.finished: dict[int, int] = {}

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
        working = self.open.get(report.number)
        expected = self.finished.get(report.number, 0) if working is None else working.sequence
        return report.sequence < expected

    def take(self, report: ExecutionReport) -> tuple[int, float] | None:
        """What a new report ends: the order's row, and the signed quantity that works no longer.

        None for an order that does not work here; its repeats are known from now on if it ever did.
        """
        working = self.open.get(report.number)
        if working is None:
            if report.number in self.finished:
                self.finished[report.number] = report.sequence + 1
            return None
        working.sequence = report.sequence + 1
        return working.row, self._release(report, working)

    def dump(self) -> tuple[dict[int, WorkingOrder], dict[int, int]]:
        """A copy."""
        return {number: copy(one) for number, one in self.open.items()}, dict(self.finished)

    @classmethod
    def load(cls, working: dict[int, WorkingOrder], finished: dict[int, int]) -> Self:
        """From what `dump` gave."""
        made = cls()
        made.open = {number: copy(one) for number, one in working.items()}
        made.finished = dict(finished)
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
            self.finished[report.number] = working.sequence
            if len(self.finished) > MOST_FINISHED:
                del self.finished[next(iter(self.finished))]
        return released
