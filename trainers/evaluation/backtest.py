"""Targets to money, by the gateway's own code: its orders, its book and its risk rules decide; costs are counted.

An order fills at once at the touch on its far side, as the gateway's `execution: assumed` does; fee, slippage, and
the spread of a source without quotes come on top. Returns are of a fixed capital: gains are not reinvested.
"""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
from msgspec import Struct

from trading.arrays import FloatArray, Int64Array
from trading.decision.columns import TickColumns, allocate_columns, part_of
from trading.decision.decide import broken_rules, decide
from trading.decision.policy import DecisionPolicy
from trading.portfolio.book import Book
from trading.risk.engine import CLIP, DENY
from trading.risk.limits import LimitSet, LimitsFile
from trainers.costs import Costs
from trainers.data.dataset import Dataset

CHUNK = 4096
CAPITAL = 1_000_000.0


class Path(Struct, frozen=True):
    """n rows in order of arrival, of one way to trade them; money in the limits' currency.

    Attributes:
        rows: int64 [n], of the dataset.
        position: float64 [n], units held after the row.
        gross, cost: float64 [n], gain at the row before costs, and what its trade cost.
        traded: float64 [n], notional.
        wanted, denied, clipped: orders, and what the rules did to them.
        broken: how often each rule was.
        capital: what returns are of.
    """

    rows: Int64Array
    position: FloatArray
    gross: FloatArray
    cost: FloatArray
    traded: FloatArray
    wanted: int
    denied: int
    clipped: int
    broken: dict[str, int]
    capital: float

    @property
    def net(self) -> FloatArray:
        """float64 [n], as a share of the capital."""
        found: FloatArray = (self.gross - self.cost) / self.capital
        return found


def research_limits(symbols: int) -> LimitSet:
    """Limits under which a strategy shows what it does: the whole capital, divided among the symbols, at most once.

    What guards a desk against the world (stale data, order rates, a latched drawdown) is off; give the desk's own
    limits to see what they would leave.
    """
    each = CAPITAL / symbols
    return LimitSet(
        LimitsFile(
            defaults={
                "capital": CAPITAL, "max_position_notional": each, "max_order_notional": 2.5 * each,
                "max_gross_notional": 1.05 * CAPITAL, "max_net_notional": 1.05 * CAPITAL, "max_desk_notional": None,
                "max_leverage": 2.0, "max_concentration": None, "max_staleness_s": None, "max_drawdown": None,
                "max_symbol_orders": None, "max_orders": None, "duplicate_window_s": None,
            }
        )
    )  # fmt: skip


def run(data: Dataset, rows: Int64Array, targets: FloatArray, costs: Costs, limits: LimitSet | None = None) -> Path:
    """Trade the rows.

    Args:
        data: where the rows are.
        rows: int64 [n], in order of arrival.
        targets: float64 [n], in [-1, 1] of the position limit.
        costs: beside the spread that stood.
        limits: of the book; default: `research_limits`.
    """
    limits = limits or research_limits(len(data.names))
    book, n = Book(limits), len(rows)
    context = DecisionPolicy(limits).context(limits, desk_quota=math.inf)
    market = np.ascontiguousarray(data.market[rows])
    symbols, time_ns = data.symbols[rows], np.ascontiguousarray(data.time_ns[rows])
    places = book.rows(data.names)[symbols]
    traded, out = np.empty((5, n)), allocate_columns(CHUNK)
    outcomes: Counter[int] = Counter()
    broken: Counter[str] = Counter()
    for begin in range(0, n, CHUNK):
        part = slice(begin, min(n, begin + CHUNK))
        size = part.stop - begin
        ticks = TickColumns(
            places[part], np.arange(begin, part.stop), time_ns[part],
            np.ascontiguousarray(data.quote_time_ns[rows[part]]), time_ns[part], market[part],
            np.ones(size, np.bool_), np.full(size, -1, np.int8), np.ascontiguousarray(targets[part]),
        )  # fmt: skip
        decided = decide(book, ticks, context, part_of(out, 0, size))
        traded[:, part] = decided.quantities, decided.prices, decided.mids, decided.before, decided.after
        outcomes.update(decided.outcomes.tolist())
        broken.update(broken_rules(decided))
    wanted = sum(count for outcome, count in outcomes.items() if outcome >= 0)
    counts = TradeCounts(wanted, outcomes[DENY], outcomes[CLIP], dict(broken))
    return account(data, rows, traded, costs, counts, limits)


class TradeCounts(Struct, frozen=True):
    """What the rules did."""

    wanted: int
    denied: int
    clipped: int
    broken: dict[str, int]


def account(
    data: Dataset, rows: Int64Array, traded: FloatArray, costs: Costs, counts: TradeCounts, limits: LimitSet
) -> Path:
    """Gains and costs of what was decided: float64 [5, n], quantity, price, mid, position before and after."""
    # Money of the account; a symbol without a rate is denied, so that nothing of it is lost here.
    rates = np.nan_to_num(np.array([limits.rate(name) for name in data.names]))[data.symbols[rows]]
    quantity, price, mid, before, after = traded
    price, mid = np.nan_to_num(price) * rates, mid * rates
    gross = before * change_of_mid(data.symbols[rows], mid)
    turnover = np.abs(quantity) * price
    spread = np.abs(quantity) * np.abs(price - mid)
    unquoted = np.isnan(data.half_spread[rows])
    spread = np.where(unquoted, turnover * costs.half_spread_bps * 1e-4, spread)
    return Path(
        rows, after.copy(), gross, spread + turnover * costs.beyond_spread, turnover, counts.wanted, counts.denied,
        counts.clipped, counts.broken, limits.book.capital,
    )  # fmt: skip


def change_of_mid(symbols: Int64Array, mid: FloatArray) -> FloatArray:
    """Change since the symbol's row before, float64 [n]; 0 for its first."""
    order = np.argsort(symbols, kind="stable")
    change = np.zeros(len(mid))
    change[order[1:]] = np.where(symbols[order[1:]] == symbols[order[:-1]], np.diff(mid[order]), 0.0)
    return change
