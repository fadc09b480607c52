"""What a batch is decided from, under what, and what is decided, as columns that compiled code takes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from trading.arrays import BoolArray, CodeArray, FloatArray, Int64Array
from trading.decision.schema import BUY, CODES, SELL, Reason
from trading.portfolio.verdict import allocate_results
from trading.risk.calendar import Calendar
from trading.risk.engine import RuleResults


class TickColumns(NamedTuple):
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


class DecisionContext(NamedTuple):
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


class ReasonTable(NamedTuple):
    """Codes of what may be decided: places in `schema.KINDS`."""

    within_band: int
    warming_up: int
    no_price: int
    no_rate: int
    invalid: int
    denied: int
    buy: int
    sell: int


#: What the compiled code decides by itself.
REASON_TABLE = ReasonTable(
    within_band=CODES[Reason.WITHIN_BAND],
    warming_up=CODES[Reason.WARMING_UP],
    no_price=CODES[Reason.NO_PRICE],
    no_rate=CODES[Reason.NO_RATE],
    invalid=CODES[Reason.PREDICTOR_INVALID],
    denied=CODES[Reason.DENIED],
    buy=BUY,
    sell=SELL,
)


class DecisionColumns(NamedTuple):
    """What was decided of n ticks.

    Attributes:
        kinds: int8 [n], places in `schema.KINDS`.
        quantities: float64 [n], of the orders, signed, in units; 0 where there is none.
        prices: float64 [n], reference prices of the orders; NaN where there is none.
        mids: float64 [n]; NaN is unknown.
        before, after: float64 [n], position, and position when all orders that work have filled.
        outcomes: int8 [n], ACCEPT, CLIP or DENY; negative where no order was wanted.
        results: int8 [n, rules], BROKEN, PASSED or OFF.
        values, limits: float64 [n, rules].
        clipped_results: what the rules said of the latest clipped order.
    """

    kinds: CodeArray
    quantities: FloatArray
    prices: FloatArray
    mids: FloatArray
    before: FloatArray
    after: FloatArray
    outcomes: CodeArray
    results: CodeArray
    values: FloatArray
    limits: FloatArray
    clipped_results: RuleResults


def allocate_columns(n: int) -> DecisionColumns:
    """Room for n decisions."""
    rule_results = allocate_results(n)
    return DecisionColumns(
        kinds=np.empty(n, np.int8),
        quantities=np.empty(n),
        prices=np.empty(n),
        mids=np.empty(n),
        before=np.empty(n),
        after=np.empty(n),
        outcomes=np.empty(n, np.int8),
        results=rule_results.results,
        values=rule_results.values,
        limits=rule_results.limits,
        clipped_results=allocate_results(),
    )


def part_of(columns: DecisionColumns, begin: int, end: int) -> DecisionColumns:
    """A view of some rows."""
    c, rows = columns, slice(begin, end)
    return DecisionColumns(
        c.kinds[rows], c.quantities[rows], c.prices[rows], c.mids[rows], c.before[rows], c.after[rows],
        c.outcomes[rows], c.results[rows], c.values[rows], c.limits[rows], c.clipped_results,
    )  # fmt: skip
