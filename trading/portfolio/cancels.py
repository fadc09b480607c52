"""Which working orders a stop ends."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from msgspec import Struct

from trading.events import ExecutionReport
from trading.portfolio.book import Book
from trading.portfolio.working_orders import WorkingOrders
from trading.risk.model import TINY
from trading.risk.trading_state import HALTED, KILLED


class Working(Struct, frozen=True):
    """An order that works: its number, symbol and the signed quantity that is left of it."""

    number: int
    symbol: str
    left: float


def to_cancel(book: Book, severity: int, untaken: Sequence[ExecutionReport] = ()) -> list[Working]:
    """The orders that must not work on in a trading state, oldest first.

    None below HALTED; all of them when KILLED, and when HALTED but for exits where the symbol's limits let exits
    through (`halted_allows_exits`): of these the oldest work on, as long as together they do not cross zero.
    RTS 6 article 12: unexecuted orders are cancelled.

    Args:
        book: of a partition; it stays as it is.
        severity: of the trading state.
        untaken: reports that have come, and that the book takes before its next tick.
    """
    if severity < HALTED or not book.working.open:
        return []
    working: WorkingOrders = book.working
    traded: defaultdict[str, float] = defaultdict(float)
    if untaken:
        # Without a tick nothing is taken, and what has ended must not count as working.
        working = WorkingOrders.load(book.working.dump())
        for report in untaken:
            if not working.is_repeated(report):
                working.take(report)
                traded[report.symbol] += report.quantity
    symbols, found = book.symbols, []
    kept: defaultdict[int, float] = defaultdict(float)
    for number, order in sorted(working.open.items()):
        row, left = order.row, order.left
        if severity < KILLED and book.tables.limits[row].halted_allows_exits:
            held = float(book.tables.positions.quantity[row]) + traded[symbols[row]]
            is_exit = left * held < 0.0
            if is_exit and kept[row] + abs(left) <= abs(held) * (1.0 + TINY):
                kept[row] += abs(left)
                continue
        found.append(Working(number, symbols[row], left))
    return found
