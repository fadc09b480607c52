"""Everything that moves a book: marks, orders, fills, days, bars. Compiled; a function of the log alone.

Totals are moved, not added up again: the line leaves them as it was and joins them as it is, so that a
book of a thousand symbols costs no more than one of three.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from trading.arrays import FloatArray, Int64Array
from trading.records import Table
from trading.risk.calendar import Calendar, trading_day
from trading.risk.engine import tidy
from trading.risk.limits import LimitRow
from trading.risk.model import SECOND, Account, Line, Past, equity, exposure_before, furthest, inline, is_unpriced
from trading.risk.rate import within_window

#: A clock may drift by so much: the offset between two clocks rises no faster.
DRIFT_PER = 10_000
LONG, SHORT = 0, 1
SYMBOL_SCOPE, SIDE_SCOPE = 0.0, 1.0


class Tables(NamedTuple):
    """A book as compiled code takes it; one row a symbol.

    Attributes:
        lines: records of `Line`.
        limits: records of `Limits`.
        account: one record of `Account`.
        order_ns: int64 [rows, .], rings of the times of accepted orders.
        all_order_ns: int64 [.], the same of the book.
        loss_ns: int64 [rows, 2, .], rings of the times of losses, of longs and of shorts.
        all_loss_ns: int64 [.], the same of the book.
        returns: float64 [rows, bars], a ring of the symbol's returns.
        scenarios: float64 [bars], what the exposures would have earned in each of these bars.
    """

    lines: Table
    limits: Table
    account: Table
    order_ns: Int64Array
    all_order_ns: Int64Array
    loss_ns: Int64Array
    all_loss_ns: Int64Array
    returns: FloatArray
    scenarios: FloatArray


@inline
def past_of(book: Tables, row: int) -> Past:
    """What the rules see of the past."""
    return Past(book.order_ns[row], book.all_order_ns, book.returns[row], book.scenarios)


@inline
def expected(line: Line) -> float:
    """Signed position when the working orders have filled, in units."""
    return tidy(line.position + line.buying - line.selling)


@inline
def worth(line: Line) -> float:
    """Of what the line earned and holds, in the account's currency."""
    held = line.position * line.mark if line.position != 0.0 else 0.0
    return (line.cash + held) * line.rate if line.cash + held != 0.0 else 0.0


@inline
def leave(line: Line, account: Account) -> None:
    """Take the line out of the totals, before it changes."""
    if is_unpriced(line):
        account.unpriced -= 1
    else:
        account.gross -= exposure_before(line)
        account.worth -= worth(line)
        if furthest(line) > 0.0:
            account.net -= expected(line) * line.mark * line.rate


@inline
def join(line: Line, account: Account) -> None:
    """Put it back, after it has changed."""
    if is_unpriced(line):
        account.unpriced += 1
    else:
        account.gross += exposure_before(line)
        account.worth += worth(line)
        if furthest(line) > 0.0:
            account.net += expected(line) * line.mark * line.rate


@inline
def recount(book: Tables) -> None:
    """Add the totals up anew: the limits, and with them capital and rates, have changed."""
    account = book.account[0]
    account.gross = account.net = account.worth = 0.0
    account.unpriced = 0
    for row in range(account.lines):
        join(book.lines[row], account)
        reweigh(book, row)


@inline
def observe(
    book: Tables, calendar: Calendar, row: int, event_ns: int, quote_ns: int, sent_ns: int, mid: float
) -> int:
    """Take a tick: its time, its price, and what follows from both.

    Returns:
        The age of what an order would now rest on, in ns: of the tick or of its quote against the stream's
        own clock, or the delay from event to sending beyond the smallest, whichever is greatest.
    """
    line, account, limits = book.lines[row], book.account[0], book.limits[row]
    account.now_ns = max(account.now_ns, event_ns)
    begin_day(account, calendar)
    if not math.isinf(limits.max_value_at_risk):
        begin_bar(book, int(limits.var_interval_s * SECOND))
    delay = sent_ns - event_ns
    if line.sent_ns == 0:
        line.delay_ns = delay
    else:
        line.delay_ns = min(delay, line.delay_ns + max(0, sent_ns - line.sent_ns) // DRIFT_PER)
    line.sent_ns = max(line.sent_ns, sent_ns)
    if not math.isnan(mid):
        if furthest(line) > 0.0:
            leave(line, account)
            line.mark = mid
            join(line, account)
        else:
            line.mark = mid
    watch(account, limits)
    # A dead quote feed must not be traded on because trades still arrive.
    return max(account.now_ns - min(event_ns, quote_ns), delay - line.delay_ns)


@inline
def begin_day(account: Account, calendar: Calendar) -> None:
    """A new trading day forgets what the last one lost."""
    day = trading_day(account.now_ns, calendar)
    if day != account.day:
        account.day = day
        account.day_equity = equity(account)
        account.daily_loss_latched = False


@inline
def begin_bar(book: Tables, interval_ns: int) -> None:
    """Where the clock enters a new bar: the last one's returns, and the scenarios of today's exposures."""
    account = book.account[0]
    bar = account.now_ns // interval_ns
    if bar == account.bar:
        return
    place, any_known = account.bars % len(book.scenarios), False
    for row in range(account.lines):
        line = book.lines[row]
        known = line.mark > 0.0 and line.bar_mark > 0.0
        book.returns[row, place] = line.mark / line.bar_mark - 1.0 if known else 0.0
        line.bars += 1 if known else 0
        line.bar_mark = line.mark
        any_known |= known
    account.bars += 1 if any_known else 0
    account.bar = bar
    book.scenarios[:] = 0.0
    for row in range(account.lines):
        book.lines[row].at_risk = 0.0
        reweigh(book, row)


@inline
def reweigh(book: Tables, row: int) -> None:
    """Count the line's present exposure in the scenarios."""
    line = book.lines[row]
    now = expected(line) * line.mark * line.rate if furthest(line) > 0.0 else 0.0
    more = (0.0 if math.isnan(now) else now) - line.at_risk
    if more != 0.0:
        for k in range(min(book.account[0].bars, len(book.scenarios))):
            book.scenarios[k] += more * book.returns[row, k]
        line.at_risk += more


@inline
def watch(account: Account, limits: LimitRow) -> None:
    """High-water mark and latches, at every mark and fill."""
    own = equity(account)
    if math.isnan(own):
        return
    if own > account.high_water:
        account.high_water = own
    # A share of nothing, or of less, is none: all is lost already.
    elif account.high_water <= 0.0 or 1.0 - own / account.high_water > limits.max_drawdown:
        account.drawdown_latched = True
    if math.isnan(account.day_equity):
        account.day_equity = own
    if account.day_equity - own > limits.max_daily_loss:
        account.daily_loss_latched = True


@inline
def accept(book: Tables, row: int, quantity: float, price: float, number: int, assumed: bool) -> None:
    """An order was accepted at the stream's time: it works, or counts as filled at once at its price."""
    line, account, limits = book.lines[row], book.account[0], book.limits[row]
    book.order_ns[row, line.orders % book.order_ns.shape[1]] = account.now_ns
    book.all_order_ns[account.orders % len(book.all_order_ns)] = account.now_ns
    line.orders += 1
    account.orders += 1
    line.last_number, line.last_ns = number, account.now_ns
    line.last_quantity, line.last_price = quantity, price
    side = 1 if quantity > 0.0 else -1
    line.run = line.run + side if line.run * side > 0 else side
    if abs(line.run) >= limits.max_same_way_executions:
        line.stopped = True
    if assumed:
        fill(book, row, quantity, price, 0.0)
    else:
        work(book, row, quantity)


@inline
def work(book: Tables, row: int, quantity: float) -> None:
    """More of the line works, or less where `quantity` was filled, rejected or cancelled: see `release`."""
    line, account = book.lines[row], book.account[0]
    leave(line, account)
    if quantity > 0.0:
        line.buying = tidy(line.buying + quantity)
    else:
        line.selling = tidy(line.selling - quantity)
    join(line, account)
    reweigh(book, row)


@inline
def release(book: Tables, row: int, quantity: float) -> None:
    """A part of a working order, signed as the order, works no longer."""
    line, account = book.lines[row], book.account[0]
    leave(line, account)
    if quantity > 0.0:
        line.buying = max(0.0, tidy(line.buying - quantity))
    else:
        line.selling = max(0.0, tidy(line.selling + quantity))
    join(line, account)
    reweigh(book, row)


@inline
def fill(book: Tables, row: int, quantity: float, price: float, fee: float) -> None:
    """A quantity, signed, was traded at a price; profit by average cost. Price and fee in the symbol's currency."""
    line, account = book.lines[row], book.account[0]
    leave(line, account)
    before, gain = line.position, 0.0
    if before * quantity >= 0.0:
        whole = abs(before) + abs(quantity)
        line.average_price = (abs(before) * line.average_price + abs(quantity) * price) / whole
    else:
        closed = min(abs(before), abs(quantity))
        gain = closed * (price - line.average_price) * (1.0 if before > 0.0 else -1.0)
        if abs(quantity) > abs(before):
            line.average_price = price
    line.position = tidy(before + quantity)
    if line.position == 0.0:
        line.average_price = 0.0
    line.cash -= quantity * price + fee
    line.realised += gain
    line.fees += fee
    if not math.isnan(line.rate):
        account.realised += gain * line.rate
        account.fees += fee * line.rate
    if math.isnan(line.mark):
        line.mark = price
    join(line, account)
    reweigh(book, row)
    if before * quantity < 0.0 and gain - fee < 0.0:
        lose(book, row, LONG if before > 0.0 else SHORT)
    watch(account, book.limits[row])


@inline
def lose(book: Tables, row: int, side: int) -> None:
    """A trade lost: where there were too many, a pause."""
    line, account, limits = book.lines[row], book.account[0], book.limits[row]
    now_ns, size = account.now_ns, len(book.all_loss_ns)
    book.all_loss_ns[account.losses % size] = now_ns
    account.losses += 1
    if side == LONG:
        book.loss_ns[row, LONG, line.long_losses % size] = now_ns
        line.long_losses += 1
    else:
        book.loss_ns[row, SHORT, line.short_losses % size] = now_ns
        line.short_losses += 1
    if math.isinf(limits.cooldown_losses):
        return
    window_s, until_ns = limits.cooldown_window_s, now_ns + int(limits.cooldown_s * SECOND)
    longs = within_window(book.loss_ns[row, LONG], line.long_losses, now_ns, window_s)
    shorts = within_window(book.loss_ns[row, SHORT], line.short_losses, now_ns, window_s)
    if limits.cooldown_scope == SYMBOL_SCOPE:
        if longs + shorts >= limits.cooldown_losses:
            line.longs_paused_until_ns = line.shorts_paused_until_ns = until_ns
    elif limits.cooldown_scope == SIDE_SCOPE:
        if side == LONG and longs >= limits.cooldown_losses:
            line.longs_paused_until_ns = until_ns
        elif side == SHORT and shorts >= limits.cooldown_losses:
            line.shorts_paused_until_ns = until_ns
    elif within_window(book.all_loss_ns, account.losses, now_ns, window_s) >= limits.cooldown_losses:
        account.paused_until_ns = until_ns


@inline
def replay(
    book: Tables,
    calendar: Calendar,
    rows: Int64Array,
    event_time_ns: Int64Array,
    quote_time_ns: Int64Array,
    sent_ns: Int64Array,
    mids: FloatArray,
    numbers: Int64Array,
    quantities: FloatArray,
    prices: FloatArray,
    assumed: bool,
) -> None:
    """Take n ticks that were decided before, with the orders that came of them.

    Args:
        book: moved.
        calendar: of the account.
        rows: int64 [n], the symbol's row.
        event_time_ns, quote_time_ns, sent_ns: int64 [n].
        mids: float64 [n]; NaN where none is known.
        numbers: int64 [n], of the orders.
        quantities, prices: float64 [n], of the orders; quantity 0 where there was none.
        assumed: whether orders count as filled.
    """
    for k in range(len(rows)):
        observe(book, calendar, rows[k], event_time_ns[k], quote_time_ns[k], sent_ns[k], mids[k])
        if quantities[k] != 0.0:
            accept(book, rows[k], quantities[k], prices[k], numbers[k], assumed)


@inline
def apply(book: Tables, rows: Int64Array, releases: FloatArray, fills: FloatArray) -> None:
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
