"""What a rule sees and what it says.

A rule is a function of the wanted order, the symbol's line in the book, the book's account, what was
done lately, and the limits. It is compiled, so that all of them together take a few microseconds; it
reads nothing else, and changes nothing.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from trading.arrays import FloatArray, Int64Array
from trading.records import record_type

SECOND = 1e9
#: What was added and subtracted differs in its last places from what was meant.
TINY = 1e-12
BROKEN, PASSED, OFF = 0, 1, 2

#: Every rule is one. What is divided by zero is no number, and denies; it must not end the gateway.
rule = njit(nogil=True, error_model="numpy")
#: Goes into rules.
inline = njit(nogil=True, error_model="numpy")


class Order(NamedTuple):
    """A wanted order.

    Attributes:
        quantity: signed, in units; positive buys.
        price: the touch on the order's own far side (ask to buy, bid to sell), or the latest trade for
            a source without quotes; NaN when unknown.
        limit_price: the worst price that it may fill at; NaN for none.
        bid, ask, mid: standing quote; NaN when unknown.
        number: grows from one order of a book to the next.
        now_ns: the stream's own clock, event time.
        age_ns: age of the data that it rests on.
        state: severity of the desk's trading state: its place in `TradingState`.
        in_session: whether the market is open.
        desk_quota: gross exposure that this book may have under the desk's reservation, in money;
            NaN when it cannot be known.
    """

    quantity: float
    price: float
    limit_price: float
    bid: float
    ask: float
    mid: float
    number: int
    now_ns: int
    age_ns: int
    state: int
    in_session: bool
    desk_quota: float


class Line:
    """A symbol's line in the book; quantities in units, money in the symbol's currency.

    Attributes:
        position: signed.
        buying, selling: of working orders that are not filled yet; neither is negative.
        average_price: of the open position.
        cash: earned and paid by fills and fees.
        mark: latest mid; NaN while none is known.
        rate: value of the symbol's currency in the account's; NaN where nobody has given one.
        realised: profit of closed quantities, before fees.
        fees: paid.
        orders: how many were accepted.
        last_number, last_ns, last_quantity, last_price: of the newest accepted order.
        run: accepted orders of one side in a row; negative are sells.
        stopped: whether a run was long enough for a human to look.
        longs_paused_until_ns, shorts_paused_until_ns: cooldown after losses.
        long_losses, short_losses: how many trades that closed a long, or a short, lost.
        bar_mark: mark at the end of the last bar; NaN before the first.
        bars: returns that are known.
        at_risk: exposure, signed, in the account's currency, that its scenarios count.
        delay_ns: smallest time from an event to its sending, lately: the clocks' offset.
        sent_ns: when the newest tick was sent; 0 before the first.
    """

    position: float
    buying: float
    selling: float
    average_price: float
    cash: float
    mark: float
    rate: float
    realised: float
    fees: float
    orders: int
    last_number: int
    last_ns: int
    last_quantity: float
    last_price: float
    run: int
    stopped: bool
    longs_paused_until_ns: int
    shorts_paused_until_ns: int
    long_losses: int
    short_losses: int
    bar_mark: float
    bars: int
    at_risk: float
    delay_ns: int
    sent_ns: int


class Account:
    """A book's totals, in the account's currency.

    Attributes:
        capital: what it began with.
        worth: sum over lines of cash and position x mark.
        gross: sum of the largest abs(position) that working orders could make, x mark.
        net: signed sum of positions and working orders, x mark.
        unpriced: lines that hold something and cannot be valued.
        realised, fees: of all lines, each at its rate of that time.
        high_water: largest equity.
        drawdown_latched: whether equity fell too far below it; a human resets it.
        day: number of the trading day; negative before the first.
        day_equity: when the day began; NaN until it is known.
        daily_loss_latched: whether the day lost too much.
        paused_until_ns: cooldown after losses.
        orders, losses: how many were accepted, how many trades lost.
        bar, bars: number of the newest bar in event time (negative before the first), and how many ended.
        lines: rows in use.
        now_ns: the stream's own clock.
    """

    capital: float
    worth: float
    gross: float
    net: float
    unpriced: int
    realised: float
    fees: float
    high_water: float
    drawdown_latched: bool
    day: int
    day_equity: float
    daily_loss_latched: bool
    paused_until_ns: int
    orders: int
    losses: int
    bar: int
    bars: int
    lines: int
    now_ns: int


LINE, ACCOUNT = record_type(Line), record_type(Account)


class Past(NamedTuple):
    """What was done lately; rings, in which entry k of all is at k modulo the length.

    Attributes:
        order_ns: int64 [.], times of the symbol's accepted orders.
        all_order_ns: int64 [.], times of the book's.
        returns: float64 [bars], the symbol's returns, a bar each.
        scenarios: float64 [bars], what the book's present exposures would have earned in each bar.
    """

    order_ns: Int64Array
    all_order_ns: Int64Array
    returns: FloatArray
    scenarios: FloatArray


class Finding(NamedTuple):
    """What a rule says of an order.

    Attributes:
        result: BROKEN, PASSED or OFF.
        value, limit: in the rule's unit; NaN for a rule without a number, and for what is not known.
        max_quantity: the largest abs(quantity) that would pass (inf: any; 0: none).
    """

    result: int
    value: float
    limit: float
    max_quantity: float


@inline
def within(value: float, limit: float, max_quantity: float) -> Finding:
    """Pass when value <= limit. A value that is not finite fails, with no size allowed."""
    if not (math.isfinite(value) and math.isfinite(limit)):
        return Finding(BROKEN, np.nan, limit, 0.0)
    if value <= limit:
        return Finding(PASSED, value, limit, np.inf)
    return Finding(BROKEN, value, limit, max(0.0, max_quantity) if math.isfinite(max_quantity) else 0.0)


@inline
def flag(passed: bool, max_quantity: float) -> Finding:
    """A rule without a number; `max_quantity` is what would pass where this does not."""
    return Finding(PASSED, np.nan, np.nan, np.inf) if passed else Finding(BROKEN, np.nan, np.nan, max_quantity)


@inline
def off() -> Finding:
    """The limit is not set."""
    return Finding(OFF, np.nan, np.nan, np.inf)


@inline
def passes(value: float, limit: float) -> Finding:
    """The rule would be cured by this order, whatever its value is."""
    return Finding(PASSED, value, limit, np.inf)


@inline
def exit_room(order: Order, line: Line) -> float:
    """Units that only shrink abs(position): what the working exits leave of it, on the order's side; else 0."""
    if order.quantity < 0.0:
        return max(0.0, line.position - line.selling)
    return max(0.0, -line.position - line.buying)


@inline
def exits(order: Order, line: Line) -> bool:
    """Whether the order only shrinks abs(position), without crossing zero even when all exits fill."""
    return abs(order.quantity) <= exit_room(order, line) * (1.0 + TINY)


@inline
def reach(order: Order, line: Line) -> float:
    """Signed position if the order and all that work on its side fill, in units."""
    if order.quantity > 0.0:
        return line.position + line.buying + order.quantity
    return line.position - line.selling + order.quantity


@inline
def furthest(line: Line) -> float:
    """The largest abs(position) that the working orders could make, in units."""
    return max(abs(line.position), abs(line.position + line.buying), abs(line.position - line.selling))


@inline
def price_of(order: Order, line: Line) -> float:
    """Of one unit, in money; the worst of the touch and the order's own limit."""
    price = order.price
    if order.limit_price > price and order.quantity > 0.0:
        price = order.limit_price
    return price * line.rate


@inline
def exposure_after(order: Order, line: Line) -> float:
    """What the line could be worth when everything fills, in money, at the order's price."""
    side = reach(order, line)
    other = line.position - line.selling if order.quantity > 0.0 else line.position + line.buying
    return max(abs(side), abs(other), abs(line.position)) * price_of(order, line)


@inline
def exposure_before(line: Line) -> float:
    """What the account's gross exposure counts of the line, in money; NaN when it cannot be known."""
    units = furthest(line)
    return units * line.mark * line.rate if units > 0.0 else 0.0


@inline
def is_unpriced(line: Line) -> bool:
    """Whether the line holds something that cannot be valued."""
    return math.isnan(exposure_before(line)) or (line.cash != 0.0 and math.isnan(line.rate))


@inline
def others_gross(line: Line, account: Account) -> float:
    """Gross exposure of the other lines, in money; NaN when a line cannot be valued."""
    return max(0.0, account.gross - exposure_before(line)) if account.unpriced == 0 else np.nan


@inline
def equity(account: Account) -> float:
    """In money; NaN when a position cannot be valued."""
    return account.capital + account.worth if account.unpriced == 0 else np.nan


@inline
def room_on_side(order: Order, line: Line, largest: float) -> float:
    """Units until abs(position with the working orders of the side) is `largest` units."""
    before = line.position + line.buying if order.quantity > 0.0 else line.position - line.selling
    side = 1.0 if order.quantity > 0.0 else -1.0
    return largest - side * before


@inline
def at_least_exit(found: Finding, order: Order, line: Line) -> Finding:
    """The part that only closes the position passes in any case."""
    if found.result != BROKEN:
        return found
    return Finding(found.result, found.value, found.limit, max(found.max_quantity, exit_room(order, line)))


@inline
def gross_within(order: Order, line: Line, account: Account, limit: float) -> Finding:
    """The book's gross exposure after the order against a limit in money; clips, and exits pass."""
    others, price = others_gross(line, account), price_of(order, line)
    value = others + exposure_after(order, line)
    if exits(order, line):
        return passes(value, limit)
    allowed = room_on_side(order, line, (limit - others) / price) if price > 0.0 else 0.0
    return at_least_exit(within(value, limit, allowed), order, line)
