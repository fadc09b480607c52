"""What orders and fills move in a book. Compiled; a function of the log alone."""

from __future__ import annotations

import math

from trading.arrays import FloatArray, Int64Array
from trading.compiled import entry, inline
from trading.portfolio.marks import observe, watch
from trading.portfolio.sums import added
from trading.portfolio.tables import BookTables, windows_of
from trading.portfolio.totals import join_totals, leave_totals, reweigh
from trading.risk.calendar import Calendar
from trading.risk.engine import RiskVerdict, RuleResults, pre_trade_check, round_quantity
from trading.risk.model import SECOND, Order
from trading.risk.rate import within_window

LONG, SHORT = 0, 1
SYMBOL_SCOPE, SIDE_SCOPE = 0.0, 1.0


@entry
def judge(
    book: BookTables, row: int, order: Order, rule_results: RuleResults, clipped_results: RuleResults
) -> RiskVerdict:
    """Judge one order, without accepting it."""
    return pre_trade_check(
        order,
        book.positions[row],
        book.account[0],
        windows_of(book, row),
        book.limits[row],
        rule_results,
        clipped_results,
    )


@entry
def accept(book: BookTables, row: int, quantity: float, price: float, number: int, assumed: bool) -> None:
    """An order was accepted at the stream's time: it works, or counts as filled at once at its price."""
    position, account, limits = book.positions[row], book.account[0], book.limits[row]
    place = position.orders % book.order_ns.shape[1]
    book.order_ns[row, place] = account.now_ns
    book.order_quantities[row, place], book.order_prices[row, place] = quantity, price
    book.all_order_ns[account.orders % len(book.all_order_ns)] = account.now_ns
    position.orders += 1
    account.orders += 1
    position.last_number = number
    side = 1 if quantity > 0.0 else -1
    position.run = position.run + side if position.run * side > 0 else side
    if abs(position.run) >= limits.max_same_way_executions:
        position.stopped = True
    if assumed:
        fill(book, row, quantity, price, 0.0)
    else:
        work(book, row, quantity)


@inline
def work(book: BookTables, row: int, quantity: float) -> None:
    """More of the position works, or less where `quantity` was filled, rejected or cancelled: see `release`."""
    position, account = book.positions[row], book.account[0]
    leave_totals(position, account)
    if quantity > 0.0:
        position.buying = round_quantity(position.buying + quantity)
    else:
        position.selling = round_quantity(position.selling - quantity)
    join_totals(position, account)
    reweigh(book, row)


@inline
def release(book: BookTables, row: int, quantity: float) -> None:
    """A part of a working order, signed as the order, works no longer."""
    position, account = book.positions[row], book.account[0]
    leave_totals(position, account)
    if quantity > 0.0:
        position.buying = max(0.0, round_quantity(position.buying - quantity))
    else:
        position.selling = max(0.0, round_quantity(position.selling + quantity))
    join_totals(position, account)
    reweigh(book, row)


@inline
def fill(book: BookTables, row: int, quantity: float, price: float, fee: float) -> None:
    """A quantity, signed, was traded at a price; profit by average cost. Price and fee in the symbol's currency."""
    position, account = book.positions[row], book.account[0]
    leave_totals(position, account)
    before, gain = position.quantity, 0.0
    if before * quantity >= 0.0:
        whole = abs(before) + abs(quantity)
        position.average_price = (abs(before) * position.average_price + abs(quantity) * price) / whole
    else:
        closed = min(abs(before), abs(quantity))
        gain = closed * (price - position.average_price) * (1.0 if before > 0.0 else -1.0)
        if abs(quantity) > abs(before):
            position.average_price = price
    position.quantity = round_quantity(before + quantity)
    if position.quantity == 0.0:
        position.average_price = 0.0
    position.cash, position.cash_rest = added(position.cash, position.cash_rest, -quantity * price)
    position.cash, position.cash_rest = added(position.cash, position.cash_rest, -fee)
    position.realised += gain
    position.fees += fee
    if not math.isnan(position.rate):
        account.realised += gain * position.rate
        account.fees += fee * position.rate
    if math.isnan(position.mark):
        position.mark = price
    join_totals(position, account)
    reweigh(book, row)
    if before * quantity < 0.0 and gain - fee < 0.0:
        lose(book, row, LONG if before > 0.0 else SHORT)
    watch(account, book.limits[row])


@inline
def lose(book: BookTables, row: int, side: int) -> None:
    """A trade lost: where there were too many, a pause."""
    position, account, limits = book.positions[row], book.account[0], book.limits[row]
    now_ns, size = account.now_ns, len(book.all_loss_ns)
    book.all_loss_ns[account.losses % size] = now_ns
    account.losses += 1
    if side == LONG:
        book.loss_ns[row, LONG, position.long_losses % size] = now_ns
        position.long_losses += 1
    else:
        book.loss_ns[row, SHORT, position.short_losses % size] = now_ns
        position.short_losses += 1
    if math.isinf(limits.cooldown_losses):
        return
    window_s, until_ns = limits.cooldown_window_s, now_ns + int(limits.cooldown_s * SECOND)
    longs = within_window(book.loss_ns[row, LONG], position.long_losses, now_ns, window_s)
    shorts = within_window(book.loss_ns[row, SHORT], position.short_losses, now_ns, window_s)
    if limits.cooldown_scope == SYMBOL_SCOPE:
        if longs + shorts >= limits.cooldown_losses:
            position.longs_paused_until_ns = position.shorts_paused_until_ns = until_ns
    elif limits.cooldown_scope == SIDE_SCOPE:
        if side == LONG and longs >= limits.cooldown_losses:
            position.longs_paused_until_ns = until_ns
        elif side == SHORT and shorts >= limits.cooldown_losses:
            position.shorts_paused_until_ns = until_ns
    elif within_window(book.all_loss_ns, account.losses, now_ns, window_s) >= limits.cooldown_losses:
        account.paused_until_ns = until_ns


@entry
def replay(
    book: BookTables,
    calendar: Calendar,
    rows: Int64Array,
    times_ns: Int64Array,
    mids: FloatArray,
    numbers: Int64Array,
    orders: FloatArray,
    assumed: bool,
) -> None:
    """Take n ticks that were decided before, with the orders that came of them.

    Args:
        book: moved.
        calendar: of the account.
        rows: int64 [n], the symbol's row.
        times_ns: int64 [n, 3]: event, quote, sent.
        mids: float64 [n]; NaN where none is known.
        numbers: int64 [n], of the orders.
        orders: float64 [n, 2]: signed quantity (0 where there was none) and price.
        assumed: whether orders count as filled.
    """
    for k in range(len(rows)):
        observe(book, calendar, rows[k], times_ns[k, 0], times_ns[k, 1], times_ns[k, 2], mids[k])
        if orders[k, 0] != 0.0:
            accept(book, rows[k], orders[k, 0], orders[k, 1], numbers[k], assumed)


@entry
def apply(book: BookTables, rows: Int64Array, releases: FloatArray, fills: FloatArray) -> None:
    """Take n reports of the broker, in order.

    Args:
        book: moved.
        rows: int64 [n].
        releases: float64 [n], signed quantity that works no longer.
        fills: float64 [n, 3]: signed quantity (0 where nothing was traded), price and fee.
    """
    for k in range(len(rows)):
        if releases[k] != 0.0:
            release(book, rows[k], releases[k])
        if fills[k, 0] != 0.0:
            fill(book, rows[k], fills[k, 0], fills[k, 1], fills[k, 2])
