"""The compiled entry points of book and rules.

numba keeps what it has compiled beside the file of the function, and compiles anew when that file has
changed; a change in a file that the function calls into would go unnoticed. The number of all sources
is therefore a constant of each entry, and so a part of what numba looks for.
"""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from trading.arrays import BoolArray, CodeArray, FloatArray, Int64Array
from trading.portfolio import kernel
from trading.portfolio.kernel import Tables, expected, past_of
from trading.risk.calendar import Calendar, is_open
from trading.risk.engine import DENY, Ruling, Sheet, assess, round_to_lot, tidy
from trading.risk.model import Order, inline


class Ticks(NamedTuple):
    """n ticks of one partition.

    Attributes:
        rows: int64 [n], the symbol's row in the book.
        numbers: int64 [n], offsets: they number the orders.
        event_time_ns, quote_time_ns, sent_ns: int64 [n].
        market: float64 [n, 4]: bid, ask, last, mid; NaN is unknown.
        warm: bool [n].
        held: int8 [n], why a tick is held whatever its target; negative where it is not.
        targets: float64 [n], in [-1, 1] of the position limit; NaN where there is none.
    """

    rows: Int64Array
    numbers: Int64Array
    event_time_ns: Int64Array
    quote_time_ns: Int64Array
    sent_ns: Int64Array
    market: FloatArray
    warm: BoolArray
    held: CodeArray
    targets: FloatArray


class Terms(NamedTuple):
    """What n ticks are decided under.

    Attributes:
        calendar: of the account.
        state: severity of the trading state.
        desk_quota: see `Order`.
        rebalance_band: share of the position limit below which nothing is done.
        assumed: whether accepted orders count as filled at once.
    """

    calendar: Calendar
    state: int
    desk_quota: float
    rebalance_band: float
    assumed: bool


class Kinds(NamedTuple):
    """Codes of what may be decided."""

    within_band: int
    warming_up: int
    no_price: int
    no_rate: int
    invalid: int
    denied: int
    buy: int
    sell: int


class Outcomes(NamedTuple):
    """What was decided of n ticks.

    Attributes:
        kinds: int8 [n].
        numbers: float64 [n, 5]: quantity, reference price, mid, position before and after; NaN is unknown.
        outcomes: int8 [n], ACCEPT, CLIP or DENY; negative where no order was wanted.
        results: int8 [n, rules], BROKEN, PASSED or OFF.
        values, limits: float64 [n, rules].
        again: what the rules said of a clipped order.
    """

    kinds: CodeArray
    numbers: FloatArray
    outcomes: CodeArray
    results: CodeArray
    values: FloatArray
    limits: FloatArray
    again: Sheet


@inline
def wanted(target: float, mid: float, largest: float, lot: float) -> float:
    """Signed position that a target means, in units: its share of the largest position, rounded down to a lot."""
    return round_to_lot(target * largest / mid, lot)


@inline
def settle(book: Tables, terms: Terms, ticks: Ticks, k: int, age_ns: int, kinds: Kinds, out: Outcomes) -> int:
    """What is done about tick k, and its order judged and accepted; returns its kind."""
    line, limits = book.lines[ticks.rows[k]], book.limits[ticks.rows[k]]
    mid, target = ticks.market[k, 3], ticks.targets[k]
    if not ticks.warm[k]:
        return kinds.warming_up
    if not (mid > 0.0 and math.isfinite(mid)):
        return kinds.no_price
    if not line.rate > 0.0:
        return kinds.no_rate
    if not math.isfinite(target):
        return kinds.invalid
    price, largest = mid * line.rate, limits.max_position_notional
    quantity = tidy(wanted(target, price, largest, limits.lot) - expected(line))
    if quantity == 0.0 or abs(quantity) * price < terms.rebalance_band * largest:
        return kinds.within_band
    order = order_of(book, terms, ticks, k, age_ns, quantity)
    sheet = Sheet(out.results[k], out.values[k], out.limits[k])
    ruling = assess(order, line, book.account[0], past_of(book, ticks.rows[k]), limits, sheet, out.again)
    out.outcomes[k] = ruling.outcome
    out.numbers[k, 1] = order.price
    if ruling.outcome == DENY:
        return kinds.denied
    out.numbers[k, 0] = ruling.quantity
    kernel.accept(book, ticks.rows[k], ruling.quantity, order.price, order.number, terms.assumed)
    out.numbers[k, 4] = expected(line)
    return kinds.buy if ruling.quantity > 0.0 else kinds.sell


@inline
def order_of(book: Tables, terms: Terms, ticks: Ticks, k: int, age_ns: int, quantity: float) -> Order:
    """The order for a quantity at tick k, at the touch on its far side, or at the latest trade without quotes."""
    bid, ask, last, mid = ticks.market[k, 0], ticks.market[k, 1], ticks.market[k, 2], ticks.market[k, 3]
    price = ask if quantity > 0.0 else bid
    if math.isnan(bid) and math.isnan(ask):
        price = last
    now_ns = book.account[0].now_ns
    return Order(
        quantity, price, np.nan, bid, ask, mid, ticks.numbers[k], now_ns, age_ns, terms.state,
        is_open(now_ns, terms.calendar), terms.desk_quota,
    )  # fmt: skip


def build(sources: int) -> Any:
    """The entries, with `sources` in what numba knows them by."""

    @njit(cache=True, nogil=True, error_model="numpy")
    def decide(book: Tables, terms: Terms, ticks: Ticks, kinds: Kinds, out: Outcomes) -> int:
        """Decide n ticks in order, and move the book; returns how many orders were wanted."""
        judged = 0 * sources
        for k in range(len(ticks.rows)):
            row, mid = ticks.rows[k], ticks.market[k, 3]
            times = (ticks.event_time_ns[k], ticks.quote_time_ns[k], ticks.sent_ns[k])
            age_ns = kernel.observe(book, terms.calendar, row, times[0], times[1], times[2], mid)
            line = book.lines[row]
            out.numbers[k, 0], out.numbers[k, 1], out.numbers[k, 2] = 0.0, np.nan, mid
            out.numbers[k, 3], out.numbers[k, 4] = line.position, expected(line)
            out.outcomes[k] = -1
            if ticks.held[k] >= 0:
                out.kinds[k] = ticks.held[k]
            else:
                out.kinds[k] = settle(book, terms, ticks, k, age_ns, kinds, out)
                judged += out.outcomes[k] >= 0
        return judged

    @njit(cache=True, nogil=True, error_model="numpy")
    def judge(book: Tables, row: int, order: Order, sheet: Sheet, again: Sheet) -> Ruling:
        """Judge one order, without accepting it."""
        account = book.account[sources * 0]
        return assess(order, book.lines[row], account, past_of(book, row), book.limits[row], sheet, again)

    @njit(cache=True, nogil=True, error_model="numpy")
    def accept(book: Tables, row: int, quantity: float, price: float, number: int, assumed: bool) -> None:
        """See `book_kernel.accept`."""
        kernel.accept(book, row, quantity, price, number + 0 * sources, assumed)

    @njit(cache=True, nogil=True, error_model="numpy")
    def observe(
        book: Tables, calendar: Calendar, row: int, event_ns: int, quote_ns: int, sent_ns: int, mid: float
    ) -> int:
        """See `book_kernel.observe`."""
        return kernel.observe(book, calendar, row, event_ns, quote_ns, sent_ns, mid) + 0 * sources

    @njit(cache=True, nogil=True, error_model="numpy")
    def replay(
        book: Tables, calendar: Calendar, rows: Int64Array, times_ns: Int64Array, mids: FloatArray,
        numbers: Int64Array, orders: FloatArray, assumed: bool,
    ) -> int:  # fmt: skip
        """See `book_kernel.replay`; times are int64 [n, 3]: event, quote, sent; orders float64 [n, 2]."""
        kernel.replay(
            book, calendar, rows, times_ns[:, 0], times_ns[:, 1], times_ns[:, 2], mids, numbers, orders[:, 0],
            orders[:, 1], assumed,
        )  # fmt: skip
        return len(rows) + 0 * sources

    @njit(cache=True, nogil=True, error_model="numpy")
    def apply(book: Tables, rows: Int64Array, releases: FloatArray, fills: FloatArray) -> int:
        """See `book_kernel.apply`."""
        kernel.apply(book, rows, releases, fills)
        return len(rows) + 0 * sources

    @njit(cache=True, nogil=True, error_model="numpy")
    def recount(book: Tables) -> int:
        """See `book_kernel.recount`."""
        kernel.recount(book)
        return 0 * sources

    return decide, judge, accept, observe, replay, apply, recount


def sources() -> int:
    """A number of everything in this folder."""
    whole = hashlib.blake2b(digest_size=6)
    for path in sorted(Path(__file__).parents[1].rglob("*.py")):
        whole.update(path.read_bytes())
    return int.from_bytes(whole.digest())


decide, judge, accept, observe, replay, apply, recount = build(sources())
