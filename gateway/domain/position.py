"""Positions of one partition, marked to the ticks that it has seen.

Until fills arrive from a broker an accepted order counts as filled at once at its reference
price. A partition is the unit of determinism: its ticks have one order, so its book has one
history, whichever gateway rebuilds it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Self

import numpy as np

from gateway.domain.schemas import FloatArray, Int64Array


class Book:
    """Signed quantity and latest mark of every symbol of a partition, a row a symbol.

    Attributes:
        quantities: float64 [rows], signed positions in units.
        marks: float64 [rows], latest mid; NaN while none is known.
    """

    def __init__(self) -> None:
        self._rows: dict[str, int] = {}
        self.quantities: FloatArray = np.zeros(0)
        self.marks: FloatArray = np.zeros(0)

    def rows(self, symbols: Sequence[str]) -> Int64Array:
        """The row of each symbol, int64 [n]; new symbols get the next ones."""
        known = self._rows
        try:
            return np.array([known[symbol] for symbol in symbols], np.int64)
        except KeyError:
            return np.array([self._row(symbol) for symbol in symbols], np.int64)

    def mark(self, symbol: str, price: float) -> None:
        """Take `price` (the mid, in the price unit) as the symbol's value from now on."""
        row = self._row(symbol)
        self.marks[row] = price

    def quantity(self, symbol: str) -> float:
        """Signed position in units; 0 for a symbol never traded."""
        row = self._rows.get(symbol)
        return 0.0 if row is None else float(self.quantities[row])

    def set_quantity(self, symbol: str, quantity: float) -> None:
        """Set the signed position, in units."""
        row = self._row(symbol)
        self.quantities[row] = quantity

    def gross_exposure(self, *, without: str | None = None) -> float:
        """Sum of abs(quantity) x mark, leaving out one symbol; NaN when a position has no mark."""
        held = self.quantities != 0.0
        if without in self._rows:
            held[self._rows[without]] = False
        # Exact, so that the order in which symbols came first does not matter.
        return math.fsum((np.abs(self.quantities[held]) * self.marks[held]).tolist())

    def dump(self) -> tuple[dict[str, float], dict[str, float]]:
        """Copies of the quantities and the marks, by symbol."""
        marks = zip(self._rows, self.marks.tolist(), strict=False)
        return self.positions(), {symbol: mark for symbol, mark in marks if not math.isnan(mark)}

    @classmethod
    def load(cls, quantities: dict[str, float], marks: dict[str, float]) -> Self:
        """The book that `dump` described."""
        book = cls()
        for symbol, price in marks.items():
            book.mark(symbol, price)
        for symbol, quantity in quantities.items():
            book.set_quantity(symbol, quantity)
        return book

    def positions(self) -> dict[str, float]:
        """Open positions by symbol, a copy."""
        quantities = zip(self._rows, self.quantities.tolist(), strict=False)
        return {symbol: quantity for symbol, quantity in quantities if quantity != 0.0}

    def _row(self, symbol: str) -> int:
        row = self._rows.get(symbol)
        if row is not None:
            return row
        row = len(self._rows)
        if row == len(self.quantities):
            self._grow(max(16, row))
        self._rows[symbol] = row
        return row

    def _grow(self, more: int) -> None:
        self.quantities = np.concatenate([self.quantities, np.zeros(more)])
        self.marks = np.concatenate([self.marks, np.full(more, np.nan)])
