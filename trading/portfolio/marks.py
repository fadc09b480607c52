"""What a tick moves in a book: clock, marks, days, bars, latches. Compiled; a function of the log alone."""

from __future__ import annotations

import math

from trading.compiled import entry, inline
from trading.portfolio.tables import BookTables
from trading.portfolio.totals import join_totals, leave_totals, recount, weigh_all
from trading.risk.calendar import Calendar, trading_day
from trading.risk.limits import LimitRow
from trading.risk.measures import equity, worst_case_position
from trading.risk.model import SECOND, Account

#: A clock may drift by so much: the offset between two clocks rises no faster.
DRIFT_PER = 10_000


@entry
def observe(
    book: BookTables, calendar: Calendar, row: int, event_ns: int, quote_ns: int, sent_ns: int, mid: float
) -> int:
    """Take a tick: its time, its price, and what follows from both.

    Returns:
        The age of what an order would now rest on, in ns: of the tick or of its quote against the stream's
        own clock, or the delay from event to sending beyond the smallest, whichever is greatest.
    """
    position, account, limits = book.positions[row], book.account[0], book.limits[row]
    account.now_ns = max(account.now_ns, event_ns)
    begin_day(book, calendar)
    if not math.isinf(limits.max_value_at_risk):
        begin_bar(book, int(limits.var_interval_s * SECOND))
    delay = sent_ns - event_ns
    if position.sent_ns == 0:
        position.delay_ns = delay
    else:
        position.delay_ns = min(delay, position.delay_ns + max(0, sent_ns - position.sent_ns) // DRIFT_PER)
    position.sent_ns = max(position.sent_ns, sent_ns)
    if not math.isnan(mid):
        if worst_case_position(position) > 0.0:
            leave_totals(position, account)
            position.mark = mid
            join_totals(position, account)
        else:
            position.mark = mid
    watch(account, limits)
    # A dead quote feed must not be traded on because trades still arrive.
    return max(account.now_ns - min(event_ns, quote_ns), delay - position.delay_ns)


@inline
def begin_day(book: BookTables, calendar: Calendar) -> None:
    """A new trading day forgets what the last one lost, and adds the totals up anew."""
    account = book.account[0]
    day = trading_day(account.now_ns, calendar)
    # Forward only: at a change of clocks, or under another session, a day could come again and clear its latch.
    if day > account.day:
        account.day = day
        recount(book)
        account.day_equity = equity(account)
        account.daily_loss_latched = False


@inline
def begin_bar(book: BookTables, interval_ns: int) -> None:
    """Where the clock enters a new bar: the last one's returns, and the scenarios of today's exposures."""
    account = book.account[0]
    bar = account.now_ns // interval_ns
    if bar == account.bar:
        return
    place, any_known = account.bars % len(book.scenarios), False
    for row in range(account.rows):
        position = book.positions[row]
        known = position.mark > 0.0 and position.bar_mark > 0.0
        book.returns[row, place] = position.mark / position.bar_mark - 1.0 if known else 0.0
        position.bars += 1 if known else 0
        position.bar_mark = position.mark
        any_known |= known
    account.bars += 1 if any_known else 0
    account.bar = bar
    weigh_all(book)


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
