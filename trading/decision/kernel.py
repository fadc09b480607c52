"""Decides ticks in the order of the log, and moves the book with each. Compiled."""

from __future__ import annotations

import math

import numpy as np

from trading.compiled import entry, inline
from trading.decision.columns import DecisionColumns, DecisionContext, ReasonTable, TickColumns
from trading.decision.sizing import target_quantity
from trading.market import ASK, BID, LAST, MID
from trading.portfolio.marks import observe
from trading.portfolio.orders import accept
from trading.portfolio.tables import BookTables, windows_of
from trading.portfolio.totals import expected
from trading.risk.calendar import is_open
from trading.risk.engine import DENY, RuleResults, pre_trade_check, round_quantity
from trading.risk.model import Order


@entry
def decide_all(
    book: BookTables, ticks: TickColumns, context: DecisionContext, reasons: ReasonTable, out: DecisionColumns
) -> None:
    """Decide n ticks in order; `out` is written."""
    for k in range(len(ticks.rows)):
        row, mid = ticks.rows[k], ticks.market[k, MID]
        times = (ticks.event_time_ns[k], ticks.quote_time_ns[k], ticks.sent_ns[k])
        age_ns = observe(book, context.calendar, row, times[0], times[1], times[2], mid)
        position = book.positions[row]
        out.quantities[k], out.prices[k], out.mids[k] = 0.0, np.nan, mid
        out.before[k], out.after[k] = position.quantity, expected(position)
        out.outcomes[k] = -1
        if ticks.held[k] >= 0:
            out.kinds[k] = ticks.held[k]
        else:
            out.kinds[k] = decide_tick(book, ticks, context, reasons, k, age_ns, out)


@inline
def decide_tick(
    book: BookTables,
    ticks: TickColumns,
    context: DecisionContext,
    reasons: ReasonTable,
    k: int,
    age_ns: int,
    out: DecisionColumns,
) -> int:
    """What is done about tick k, and its order judged and accepted; returns its kind."""
    row = ticks.rows[k]
    position, limits = book.positions[row], book.limits[row]
    mid, target = ticks.market[k, MID], ticks.targets[k]
    if not ticks.warm[k]:
        return reasons.warming_up
    if not (mid > 0.0 and math.isfinite(mid)):
        return reasons.no_price
    if not position.rate > 0.0:
        return reasons.no_rate
    if not math.isfinite(target):
        return reasons.invalid
    price, largest = mid * position.rate, limits.max_position_notional
    quantity = round_quantity(target_quantity(target, price, largest, limits.lot) - expected(position))
    if quantity == 0.0 or abs(quantity) * price < context.rebalance_band * largest:
        return reasons.within_band
    order = build_order(book, ticks, context, k, age_ns, quantity)
    rule_results = RuleResults(out.results[k], out.values[k], out.limits[k])
    verdict = pre_trade_check(
        order, position, book.account[0], windows_of(book, row), limits, rule_results, out.clipped_results
    )
    out.outcomes[k] = verdict.outcome
    out.prices[k] = order.price
    if verdict.outcome == DENY:
        return reasons.denied
    out.quantities[k] = verdict.quantity
    accept(book, row, verdict.quantity, order.price, order.number, context.assumed)
    out.after[k] = expected(position)
    return reasons.buy if verdict.quantity > 0.0 else reasons.sell


@inline
def build_order(
    book: BookTables, ticks: TickColumns, context: DecisionContext, k: int, age_ns: int, quantity: float
) -> Order:
    """The order for a quantity at tick k, at the touch on its far side, or at the latest trade without quotes."""
    bid, ask = ticks.market[k, BID], ticks.market[k, ASK]
    price = ask if quantity > 0.0 else bid
    if math.isnan(bid) and math.isnan(ask):
        price = ticks.market[k, LAST]
    now_ns = book.account[0].now_ns
    return Order(
        quantity, price, np.nan, bid, ask, ticks.market[k, MID], ticks.numbers[k], now_ns, age_ns, context.state,
        is_open(now_ns, context.calendar), context.desk_quota,
    )  # fmt: skip
