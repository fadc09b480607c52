"""What a book holds and has earned, by symbol, as people read it."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from trading.portfolio.book import Book
from trading.portfolio.verdict import finite


class Holding(Struct, frozen=True):
    """A symbol in a book; quantities in units, money in the symbol's own currency, None where it is not known.

    Attributes:
        symbol: the instrument.
        quantity: held, signed, as far as the book has heard of fills.
        buying, selling: of working orders, neither negative.
        average_price: of what is held; None where nothing is.
        mark: the latest mid.
        value: quantity x mark.
        realised: profit of closed quantities, before fees.
        unrealised: quantity x (mark - average price).
        fees: paid.
        profit: realised + unrealised - fees, since the book began.
        rate: value of the symbol's currency in the account's.
        orders: how many were accepted.
    """

    symbol: str
    quantity: float
    buying: float
    selling: float
    average_price: float | None
    mark: float | None
    value: float | None
    realised: float
    unrealised: float | None
    fees: float
    profit: float | None
    rate: float | None
    orders: int


def holdings(book: Book) -> list[Holding]:
    """Of every symbol that the book has seen, in the order of their names."""
    return [holding(symbol, book.position(symbol)) for symbol in sorted(book.symbols)]


def holding(symbol: str, position: Any) -> Holding:
    """Of a record of `trading.risk.model.Position`."""
    quantity, mark = float(position.quantity), float(position.mark)
    average = float(position.average_price)
    # What is not held has no value to lose, whether or not a price is known.
    unrealised = quantity * (mark - average) if quantity else 0.0
    realised, fees = float(position.realised), float(position.fees)
    return Holding(
        symbol=symbol,
        quantity=quantity,
        buying=float(position.buying),
        selling=float(position.selling),
        average_price=finite(average) if quantity else None,
        mark=finite(mark),
        value=finite(quantity * mark if quantity else 0.0),
        realised=realised,
        unrealised=finite(unrealised),
        fees=fees,
        profit=finite(realised + unrealised - fees),
        rate=finite(float(position.rate)),
        orders=int(position.orders),
    )
