"""Positions by the arm that opened them: what a lot earns, and what its trades cost, is its opener's to the end.

A unit ends, and its position stays: the next arm finds it, and may close it. First in, first out.
"""

from __future__ import annotations

import numpy as np
from msgspec import Struct

from trading.arrays import FloatArray

#: Of a quantity: what is left of a lot by rounding is none.
NOTHING = 1e-9


class Lots(Struct):
    """Of every symbol, in the order in which they were opened.

    Attributes:
        open: symbol -> lots, each its arm and signed quantity.
        marks: symbol -> price and money a price unit that it is valued at.
        cash: of each arm, in money: what it sold for less what it bought for, and less costs.
    """

    open: dict[str, list[tuple[int, float]]]
    marks: dict[str, tuple[float, float]]
    cash: list[float]

    @classmethod
    def of(cls, arms: int) -> Lots:
        """Without any."""
        return cls({}, {}, [0.0] * arms)

    def knows(self, symbol: str) -> bool:
        """Whether it was met before."""
        return symbol in self.open

    def begin(self, symbol: str, quantity: float, mark: tuple[float, float]) -> None:
        """A position that was there before: the champion's, bought for what it is worth now."""
        self.open[symbol] = [(0, quantity)] if abs(quantity) > NOTHING else []
        self.mark(symbol, *mark)

    def mark(self, symbol: str, price: float, rate: float) -> None:
        """What it is valued at; an unknown price or rate leaves it at the one before.

        What was there before there was any was bought at the first.
        """
        if np.isfinite(price) and np.isfinite(rate):
            if symbol not in self.marks:
                self.cash[0] -= sum(quantity for _, quantity in self.open.get(symbol, ())) * price * rate
            self.marks[symbol] = (price, rate)

    def fill(self, symbol: str, arm: int, quantity: float, money: tuple[float, float], cost: float) -> None:
        """An arm trades.

        Args:
            symbol: what.
            arm: whose.
            quantity: signed.
            money: price, and money a price unit.
            cost: share of what is traded.
        """
        price, rate = money
        if not np.isfinite(rate):
            rate = self.marks.get(symbol, (0.0, np.nan))[1]
        if not np.isfinite(price * rate):
            # Nobody can say what it cost: it is bought for what it is worth.
            price, rate = self.marks.get(symbol, (0.0, 0.0))
        if symbol not in self.marks:
            self.mark(symbol, price, rate)
        lots = self.open.setdefault(symbol, [])
        while lots and abs(quantity) > NOTHING and lots[0][1] * quantity < 0.0:
            opener, held = lots[0]
            closed = np.sign(quantity) * min(abs(quantity), abs(held))
            self._pay(opener, closed, price * rate, cost)
            quantity -= closed
            left = held + closed
            lots[:1] = [(opener, float(left))] if abs(left) > NOTHING else []
        if abs(quantity) > NOTHING:
            lots.append((arm, float(quantity)))
            self._pay(arm, quantity, price * rate, cost)

    def worth(self) -> FloatArray:
        """What each arm has earned, float64 [arms], in money."""
        found = np.array(self.cash, np.float64)
        for symbol, lots in self.open.items():
            # Without any price yet, and so not paid for either.
            price, rate = self.marks.get(symbol, (0.0, 0.0))
            for arm, quantity in lots:
                found[arm] += quantity * price * rate
        return found

    def _pay(self, arm: int, quantity: float, money: float, cost: float) -> None:
        self.cash[arm] -= float(quantity * money + abs(quantity) * money * cost)
