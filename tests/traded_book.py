"""A book under the limits that a test names, everything else out of the way; and a slow one to compare with."""

from __future__ import annotations

import math
from typing import Any

from trading.events import ExecutionReport, ReportKind
from trading.portfolio.book import Book
from trading.risk.calendar import Session, is_open
from trading.risk.limits import LimitSet, LimitsFile, permissive_limits
from trading.risk.model import Order
from trading.risk.trading_state import ACTIVE
from trading.risk.verdict import Verdict

SECOND = 1_000_000_000
#: A Monday noon, UTC.
NOON_NS = 1_704_110_400 * SECOND


class TradedBook:
    """A book with a market; money is in USD."""

    def __init__(
        self,
        symbols: dict[str, dict[str, Any]] | None = None,
        session: Session | None = None,
        rates: dict[str, float] | None = None,
        **limits: Any,
    ) -> None:
        defaults = {**permissive_limits(), "lot": 0.001, **limits}
        file = LimitsFile(session=session, rates=rates or {}, defaults=defaults, symbols=symbols or {})
        self.book = Book(LimitSet(file))
        self.now_ns, self.number, self.age_ns = NOON_NS, 0, 0
        self.marks: dict[str, float] = {}
        self.sequences: dict[int, int] = {}

    def tick(self, price: float, symbol: str = "A", after_s: float = 0.0) -> None:
        self.now_ns += round(after_s * SECOND)
        self.age_ns = self.book.observe(symbol, self.now_ns, price)
        self.marks[symbol] = price

    def judge(self, quantity: float, symbol: str = "A", **changes: Any) -> Verdict:
        price = changes.get("price", self.marks.get(symbol, math.nan))
        self.number += 1
        given: dict[str, Any] = {
            "quantity": quantity, "price": price, "limit_price": math.nan, "bid": price, "ask": price, "mid": price,
            "number": self.number, "now_ns": self.book.now_ns, "age_ns": self.age_ns, "state": ACTIVE,
            "in_session": bool(is_open(self.book.now_ns, self.book.limits.calendar)), "desk_quota": math.nan,
        }  # fmt: skip
        return self.book.judge(symbol, Order(**{**given, **changes}))

    def hold(self, quantity: float, price: float | None = None, symbol: str = "A") -> None:
        """Filled at once."""
        self.number += 1
        if symbol not in self.marks:
            self.tick(price or 100.0, symbol)
        self.book.accept(symbol, quantity, price or self.marks[symbol], self.number, assumed=True)

    def work(self, quantity: float, symbol: str = "A") -> int:
        """Accepted, and working."""
        self.number += 1
        self.book.accept(symbol, quantity, self.marks[symbol], self.number, assumed=False)
        return self.number

    def report(
        self, number: int, kind: ReportKind, quantity: float = 0.0, price: float = 0.0, fee: float = 0.0,
        symbol: str = "A", sequence: int | None = None,
    ) -> None:  # fmt: skip
        """The next report of an order, or one of a given number."""
        following = self.sequences.get(number, 0)
        self.sequences[number] = following + (sequence is None)
        which = following if sequence is None else sequence
        self.book.apply([ExecutionReport("o", number, which, symbol, kind, quantity, price, fee, 0.0, 0)])


def result(verdict: Verdict, rule: str) -> Any:
    """What one rule said; None where it is off."""
    return next((r for r in verdict.results if r.rule == rule), None)


class SlowBook:
    """The same book from a list of everything that happened, added up anew at every question."""

    def __init__(self, capital: float) -> None:
        self.capital = capital
        self.trades: list[tuple[str, float, float, float]] = []
        self.working: dict[int, tuple[str, float]] = {}
        self.marks: dict[str, float] = {}
        self.high_water = capital

    def position(self, symbol: str) -> float:
        return round(sum(q for s, q, _, _ in self.trades if s == symbol), 10)

    def working_side(self, symbol: str, side: int) -> float:
        return sum(abs(q) for s, q in self.working.values() if s == symbol and q * side > 0)

    def equity(self) -> float:
        paid = math.fsum(q * price + fee for _, q, price, fee in self.trades)
        return self.capital - paid + math.fsum(self.position(s) * m for s, m in self.marks.items())

    def gross(self) -> float:
        return math.fsum(self.furthest(s) * mark for s, mark in self.marks.items())

    def furthest(self, symbol: str) -> float:
        held = self.position(symbol)
        ends = (held, held + self.working_side(symbol, 1), held - self.working_side(symbol, -1))
        return max(map(abs, ends))

    def net(self) -> float:
        return math.fsum(
            (self.position(s) + self.working_side(s, 1) - self.working_side(s, -1)) * m
            for s, m in self.marks.items()
        )

    def realised(self, symbol: str) -> float:
        held, average, gain = 0.0, 0.0, 0.0
        for s, q, price, _ in self.trades:
            if s != symbol:
                continue
            if held * q >= 0:
                average = (abs(held) * average + abs(q) * price) / (abs(held) + abs(q))
            else:
                closed = min(abs(held), abs(q))
                gain += closed * (price - average) * math.copysign(1, held)
                average = price if abs(q) > abs(held) else average
            held = round(held + q, 10)
            average = 0.0 if held == 0 else average
        return gain

    def note(self) -> None:
        self.high_water = max(self.high_water, self.equity())
