"""What a rule's proof is told with: a book of its own, in which all other limits stop nothing.

The book is driven as in trading: by ticks, accepted orders and time.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from trading.risk.calendar import SECOND, Session, is_open
from trading.risk.limits import Limits, LimitSet, LimitsFile, permissive_limits
from trading.risk.model import Order
from trading.risk.trading_state import ACTIVE
from trading.risk.verdict import Verdict

PRICE, CAPITAL = 100.0, 1e6
SYMBOL, OTHER = "PROOF", "OTHER"
#: 2024-01-01, a Monday.
MONDAY_NS = 1_704_067_200 * SECOND
#: What limits may need that does not come with the ticks.
RESERVATIONS = "reservations in Redis"


class ProofBook(Protocol):
    """What a proof asks of a book; `trading.portfolio.book.Book` is one."""

    limits: LimitSet

    @property
    def now_ns(self) -> int:
        """The newest event time."""

    def position(self, symbol: str) -> Any:
        """The symbol's position."""

    def observe(self, symbol: str, event_ns: int, mid: float, sent_ns: int | None = None) -> int:
        """Take a tick; returns the age of the data, in ns."""

    def judge(self, symbol: str, order: Order) -> Verdict:
        """What the rules say of an order; the book stays as it is."""

    def accept(self, symbol: str, quantity: float, price: float, number: int, *, assumed: bool) -> None:
        """An order was accepted."""


NewBook = Callable[[LimitSet], ProofBook]


class Case:
    """A book with one rule on."""

    def __init__(
        self,
        new_book: NewBook,
        parameters: tuple[str, ...],
        limits: Limits,
        session: Session | None,
        *,
        whole_session: bool = False,
    ) -> None:
        """Begin on a Monday with a tick at 100.

        Args:
            new_book: makes an empty book.
            parameters: names of the limits that are kept; all others stop nothing.
            limits: whose values they have.
            session: of the account.
            whole_session: whether its hours hold, and not only its days.
        """
        kept = {k: v for k, v in msgspec.structs.asdict(limits).items() if k in parameters}
        self.limits = limits
        if session is not None and not whole_session:
            session = Session(timezone=session.timezone, rolls=session.rolls)
        self.book = new_book(LimitSet(LimitsFile(session=session, defaults={**permissive_limits(), **kept})))
        self.now_ns, self.number = MONDAY_NS, 0
        self.age_ns = self.tick(PRICE)

    def tick(self, price: float, symbol: str = SYMBOL, after_s: float = 0.0) -> int:
        """A tick so much later; returns the age of its data, in ns."""
        self.now_ns += int(after_s * SECOND)
        self.age_ns = self.book.observe(symbol, self.now_ns, price)
        return self.age_ns

    def order(self, quantity: float, **changes: Any) -> Verdict:
        """What the rules say of an order at the market."""
        price = changes.pop("price", PRICE)
        self.number += 1
        given: dict[str, Any] = {
            "quantity": math.copysign(math.floor(abs(quantity) * 1e8 + 0.5) / 1e8, quantity),
            "price": price, "limit_price": math.nan, "bid": price, "ask": price, "mid": price,
            "number": self.number, "now_ns": self.book.now_ns, "age_ns": self.age_ns, "state": ACTIVE,
            "in_session": bool(is_open(self.book.now_ns, self.book.limits.calendar)), "desk_quota": math.nan,
        }  # fmt: skip
        return self.book.judge(SYMBOL, Order(**{**given, **changes}))

    def accept(self, quantity: float, price: float = PRICE, symbol: str = SYMBOL) -> None:
        """An order that was accepted and filled."""
        self.number += 1
        self.book.accept(symbol, quantity, price, self.number, assumed=True)


Told = tuple[str, Verdict]
#: A rule's two orders: what it must deny, what it must let pass.
Shown = tuple[Told, Told]
Begin = Callable[[], Case]


def set_limit(value: float | None) -> float:
    """A limit, which must be set. Raises LookupError where it is not."""
    if value is None:
        raise LookupError("it has no limit")
    return value


def beyond(case: Case, units: float) -> Shown:
    """A hundredth more than a size, and less."""
    return (f"buy {units * 1.01:,.6g}", case.order(units * 1.01)), (
        f"buy {units * 0.99:,.6g}",
        case.order(units * 0.99),
    )


def after_many(case: Case, most: float, symbols: list[str]) -> Shown:
    """One order more than the rate allows, and one after the window."""
    for k in range(int(most)):
        case.accept(1.0, symbol=symbols[k % len(symbols)])
    denied = case.order(1.0)
    window_s = case.limits.order_window_s
    case.tick(PRICE, after_s=window_s)
    return (f"buy 1 after {most:g} orders", denied), (f"buy 1 {window_s:g} s later", case.order(1.0))


def lost(case: Case, money: float, *, recovers: bool = False, then_s: float = 0.0) -> Verdict:
    """Buy 1 after a position has lost so much, unrealised."""
    units = 2.0 * max(CAPITAL, money) / PRICE
    case.accept(units)
    case.tick(PRICE - money / units)
    if recovers or then_s:
        case.tick(PRICE if recovers else PRICE - money / units, after_s=then_s)
    return case.order(1.0, price=float(case.book.position(SYMBOL).mark))
