"""Positions of one partition, marked to the ticks that it has seen.

Until fills arrive from a broker an accepted order counts as filled at once at its reference
price. A partition is the unit of determinism: its ticks have one order, so its book has one
history, whichever gateway rebuilds it.
"""

from __future__ import annotations

import math
from typing import Self


class Book:
    """Signed quantity and latest mark of every symbol of a partition."""

    def __init__(self) -> None:
        self._quantities: dict[str, float] = {}
        self._marks: dict[str, float] = {}

    def mark(self, symbol: str, price: float) -> None:
        """Take `price` (the mid, in the price unit) as the symbol's value from now on."""
        self._marks[symbol] = price

    def quantity(self, symbol: str) -> float:
        """Signed position in units; 0 for a symbol never traded."""
        return self._quantities.get(symbol, 0.0)

    def set_quantity(self, symbol: str, quantity: float) -> None:
        """Set the signed position, in units."""
        if quantity == 0.0:
            self._quantities.pop(symbol, None)
        else:
            self._quantities[symbol] = quantity

    def gross_exposure(self, *, without: str | None = None) -> float:
        """Sum of abs(quantity) x mark, leaving out one symbol; NaN when a position has no mark."""
        marks = self._marks
        return math.fsum(
            abs(quantity) * marks.get(symbol, math.nan)
            for symbol, quantity in self._quantities.items()
            if symbol != without
        )

    def dump(self) -> tuple[dict[str, float], dict[str, float]]:
        """Copies of the quantities and the marks, by symbol."""
        return dict(self._quantities), dict(self._marks)

    @classmethod
    def load(cls, quantities: dict[str, float], marks: dict[str, float]) -> Self:
        """The book that `dump` described."""
        book = cls()
        book._quantities, book._marks = dict(quantities), dict(marks)
        return book

    def positions(self) -> dict[str, float]:
        """Open positions by symbol, a copy."""
        return dict(self._quantities)
