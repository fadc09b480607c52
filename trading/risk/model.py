"""What a rule sees and what it says.

A rule is a function of the wanted order, the symbol's position in the book, the book's account, what was
done lately, and the limits. It is compiled, so that all of them together take a few microseconds; it
reads nothing else, and changes nothing.
"""

from __future__ import annotations

from typing import NamedTuple

from trading.arrays import FloatArray, Int64Array
from trading.records import record_type

SECOND = 1e9
#: What was added and subtracted differs in its last places from what was meant.
TINY = 1e-12
BROKEN, PASSED, OFF = 0, 1, 2


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


class Position:
    """A symbol's position in the book; quantities in units, money in the symbol's currency.

    Attributes:
        quantity: signed.
        buying, selling: of working orders that are not filled yet; neither is negative.
        average_price: of the open position.
        cash: earned and paid by fills and fees; `cash_rest` is what a number of this size cannot hold of it.
        mark: latest mid; NaN while none is known.
        rate: value of the symbol's currency in the account's; NaN where nobody has given one.
        realised: profit of closed quantities, before fees.
        fees: paid.
        orders: how many were accepted.
        last_number: of the newest accepted order.
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

    quantity: float
    buying: float
    selling: float
    average_price: float
    cash: float
    cash_rest: float
    mark: float
    rate: float
    realised: float
    fees: float
    orders: int
    last_number: int
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
        worth: sum over positions of cash and position x mark.
        gross: sum of the largest abs(position) that working orders could make, x mark.
        net: signed sum of positions and working orders, x mark.
        worth_rest, gross_rest, net_rest: what numbers of these sizes cannot hold of the sums.
        unpriced: positions that hold something and cannot be valued.
        realised, fees: of all positions, each at its rate of that time.
        high_water: largest equity.
        drawdown_latched: whether equity fell too far below it; a human resets it.
        day: number of the trading day; negative before the first.
        day_equity: when the day began; NaN until it is known.
        daily_loss_latched: whether the day lost too much.
        paused_until_ns: cooldown after losses.
        orders, losses: how many were accepted, how many trades lost.
        bar, bars: number of the newest bar in event time (negative before the first), and how many ended.
        rows: positions in use.
        now_ns: the stream's own clock.
    """

    capital: float
    worth: float
    worth_rest: float
    gross: float
    gross_rest: float
    net: float
    net_rest: float
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
    rows: int
    now_ns: int


POSITION_DTYPE, ACCOUNT_DTYPE = record_type(Position), record_type(Account)


class RollingWindows(NamedTuple):
    """What was done lately; rings, in which entry k of all is at k modulo the length.

    Attributes:
        order_ns: int64 [.], times of the symbol's accepted orders.
        order_quantities, order_prices: float64 [.], their signed quantities and their prices.
        all_order_ns: int64 [.], times of the book's.
        returns: float64 [bars], the symbol's returns, a bar each.
        scenarios: float64 [bars], what the book's present exposures would have earned in each bar.
    """

    order_ns: Int64Array
    order_quantities: FloatArray
    order_prices: FloatArray
    all_order_ns: Int64Array
    returns: FloatArray
    scenarios: FloatArray


class CheckResult(NamedTuple):
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
