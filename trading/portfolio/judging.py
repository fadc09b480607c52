"""What the limits say of one order, outside of a gateway."""

from __future__ import annotations

import math
import time

import numpy as np

from trading.portfolio.book import Book
from trading.risk.calendar import DAY, is_open
from trading.risk.limits import LimitSet
from trading.risk.model import Order
from trading.risk.trading_state import SEVERITY, TradingState
from trading.risk.verdict import Verdict

#: An age that is not known is that of data of three years ago, and one from ahead is no younger than now.
OLDEST_S = 1e8


def judge_order(
    symbol: str,
    quantity: float,
    price: float | None,
    *,
    limits: LimitSet | None = None,
    position: float = 0.0,
    mid: float | None = None,
    age_s: float = 0.0,
    state: TradingState = TradingState.ACTIVE,
    now_ns: int | None = None,
) -> Verdict:
    """Every rule's verdict on one order, in a book that holds this one position since yesterday and nothing else.

    Args:
        symbol: of the instrument.
        quantity: signed, in units; negative sells.
        price: the touch on the order's far side, in the instrument's currency; None where it is not known.
        limits: in force; default: those that the code has (`trading.risk.limits`).
        position: held before, signed, in units.
        mid: middle of the market; default: the price.
        age_s: of the market data, in seconds.
        state: of the desk.
        now_ns: event time, in nanoseconds since 1970 in UTC; default: the clock's. Session hours go by it.

    Returns:
        what is allowed of the quantity, and each rule with its value, limit and headroom. What is not finite, or
        not known, is denied.
    """
    found = limits if limits is not None else LimitSet()
    at_ns = time.time_ns() if now_ns is None else now_ns
    # As the kernels take them: numbers, and NaN for what is not known.
    touch = math.nan if price is None else float(price)
    middle, held = touch if mid is None else float(mid), float(position)
    quota = found.of(symbol).max_desk_notional
    age_ns = int(min(abs(age_s), OLDEST_S) * 1e9) if math.isfinite(age_s) else int(OLDEST_S * 1e9)
    order = Order(
        float(quantity), touch, math.nan, math.nan, math.nan, middle, 1, at_ns, age_ns, SEVERITY[state],
        bool(is_open(at_ns, found.calendar)), math.nan if quota is None else quota,
    )  # fmt: skip
    return judged(found, symbol, order, held)


def judged(limits: LimitSet, symbol: str, order: Order, position: float) -> Verdict:
    """A new book's verdict, when it has held so much since yesterday: no rate and no duplicate of today."""
    book = Book(limits)
    # What is divided by zero is no number here as it is where this is compiled.
    with np.errstate(all="ignore"):
        if position:
            book.observe(symbol, order.now_ns - DAY, order.mid)
            book.accept(symbol, position, order.mid, 0, assumed=True)
        book.observe(symbol, order.now_ns, order.mid)
        return book.judge(symbol, order)
