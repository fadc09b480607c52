"""A book as compiled code takes it: tables of records, a row a symbol."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from trading.arrays import FloatArray, Int64Array
from trading.compiled import inline
from trading.records import Table, table
from trading.risk.limits import BARS, LIMITS, MOST_LOSSES, MOST_ORDERS, MOST_SYMBOL_ORDERS
from trading.risk.model import ACCOUNT_DTYPE, POSITION_DTYPE, RollingWindows


class BookTables(NamedTuple):
    """A book as compiled code takes it; one row a symbol.

    Attributes:
        positions: records of `Position`.
        limits: records of `Limits`.
        account: one record of `Account`.
        order_ns: int64 [rows, .], rings of the times of accepted orders.
        order_quantities, order_prices: float64 [rows, .], rings of what they were.
        all_order_ns: int64 [.], the same of the book.
        loss_ns: int64 [rows, 2, .], rings of the times of losses, of longs and of shorts.
        all_loss_ns: int64 [.], the same of the book.
        returns: float64 [rows, bars], a ring of the symbol's returns.
        scenarios: float64 [bars], what the exposures would have earned in each of these bars.
    """

    positions: Table
    limits: Table
    account: Table
    order_ns: Int64Array
    order_quantities: FloatArray
    order_prices: FloatArray
    all_order_ns: Int64Array
    loss_ns: Int64Array
    all_loss_ns: Int64Array
    returns: FloatArray
    scenarios: FloatArray


def allocate_tables(rows: int) -> BookTables:
    """Empty tables for so many symbols."""
    return BookTables(
        positions=table(POSITION_DTYPE, rows),
        limits=table(LIMITS, rows),
        account=table(ACCOUNT_DTYPE, 1),
        order_ns=np.zeros((rows, MOST_SYMBOL_ORDERS), np.int64),
        order_quantities=np.zeros((rows, MOST_SYMBOL_ORDERS)),
        order_prices=np.zeros((rows, MOST_SYMBOL_ORDERS)),
        all_order_ns=np.zeros(MOST_ORDERS, np.int64),
        loss_ns=np.zeros((rows, 2, MOST_LOSSES), np.int64),
        all_loss_ns=np.zeros(MOST_LOSSES, np.int64),
        returns=np.zeros((rows, BARS)),
        scenarios=np.zeros(BARS),
    )


@inline
def windows_of(book: BookTables, row: int) -> RollingWindows:
    """What the rules see of the windows."""
    return RollingWindows(
        book.order_ns[row],
        book.order_quantities[row],
        book.order_prices[row],
        book.all_order_ns,
        book.returns[row],
        book.scenarios,
    )
