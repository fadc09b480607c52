"""Where the desk stands by symbol: its books, put together over the partitions."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from gateway.books import PartitionBook
from trading.portfolio.book import BookSummary
from trading.portfolio.holdings import Holding, holdings


class BookStanding(Struct, frozen=True):
    """A partition's book; `decided_to` is the last tick that is in it, -1 for none, and `now_ns` its event time."""

    partition: int
    decided_to: int
    now_ns: int
    summary: BookSummary


class SymbolStanding(Struct, frozen=True):
    """A symbol's holding in the book of a partition."""

    partition: int
    holding: Holding


class Standing(Struct, frozen=True):
    """The desk, as far as its ticks are decided.

    Attributes:
        books: of every partition.
        symbols: in the order of their names, and of partitions where a symbol lies in several.
        profit: of all symbols in the account's currency; None where a price or a rate is not known.
    """

    books: list[BookStanding]
    symbols: list[SymbolStanding]
    profit: float | None


def standing(books: Sequence[PartitionBook], symbol: str = "") -> Standing:
    """Of the books; of one symbol alone unless it is ""."""
    told = [BookStanding(one.partition, one.next_offset - 1, one.book.now_ns, one.book.summary()) for one in books]
    found = [
        SymbolStanding(one.partition, held)
        for one in books
        for held in holdings(one.book)
        if symbol in {"", held.symbol}
    ]
    found.sort(key=lambda one: (one.holding.symbol, one.partition))
    return Standing(told, found, total(found))


def total(found: Sequence[SymbolStanding]) -> float | None:
    """Profit in the account's currency."""
    profit = 0.0
    for one in found:
        held = one.holding
        if held.profit == 0.0:
            continue
        if held.profit is None or held.rate is None:
            return None
        profit += held.profit * held.rate
    return profit
