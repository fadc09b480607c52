"""Which working orders a stop ends."""

from __future__ import annotations

from collections import defaultdict

from msgspec import Struct

from trading.portfolio.book import Book
from trading.risk.model import TINY
from trading.risk.trading_state import HALTED, KILLED


class Working(Struct, frozen=True):
    """An order that works: its number, symbol and the signed quantity that is left of it."""

    number: int
    symbol: str
    left: float


def to_cancel(book: Book, severity: int) -> list[Working]:
    """The orders that must not work on in a trading state, oldest first.

    None below HALTED; all of them when KILLED, and when HALTED but for exits where the symbol's limits let exits
    through (`halted_allows_exits`): of these the oldest work on, as long as together they do not cross zero.
    RTS 6 article 12: unexecuted orders are cancelled.
    """
    if severity < HALTED or not book.working.open:
        return []
    symbols, found = book.symbols, []
    kept: defaultdict[int, float] = defaultdict(float)
    for number, working in sorted(book.working.open.items()):
        row, left = working.row, working.left
        if severity < KILLED and book.tables.limits[row].halted_allows_exits:
            held = float(book.tables.positions.quantity[row])
            is_exit = left * held < 0.0
            if is_exit and kept[row] + abs(left) <= abs(held) * (1.0 + TINY):
                kept[row] += abs(left)
                continue
        found.append(Working(number, symbols[row], left))
    return found
