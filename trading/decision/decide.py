"""Deciding, as the live path, research and benchmarks do it: one function."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np

from trading.decision.columns import (
    REASON_TABLE,
    DecisionColumns,
    DecisionContext,
    TickColumns,
    allocate_columns,
)
from trading.decision.kernel import decide_all
from trading.portfolio.book import Book
from trading.risk.model import BROKEN
from trading.risk.rules import NAMES


def decide(
    book: Book, ticks: TickColumns, context: DecisionContext, out: DecisionColumns | None = None
) -> DecisionColumns:
    """Decide ticks in order, and move the book: its marks, its orders, and what of them still works.

    Args:
        book: of the ticks' partition.
        ticks: n ticks.
        context: what they are decided under.
        out: written and returned, n rows; new columns where it is None.
    """
    columns = allocate_columns(len(ticks.rows)) if out is None else out
    decide_all(book.tables, ticks, context, REASON_TABLE, columns)
    if not context.assumed:
        book.working.add_all(ticks.rows, ticks.numbers, columns.quantities)
    return columns


def broken_rules(columns: DecisionColumns) -> Counter[str]:
    """How often each rule was broken; rules that never were are left out."""
    judged = columns.outcomes >= 0
    counts = np.count_nonzero(columns.results[judged] == BROKEN, axis=0).tolist()
    return Counter({name: count for name, count in zip(NAMES, counts, strict=True) if count})


def least_headroom(columns: DecisionColumns) -> dict[str, float]:
    """Of each rule that has a limit above 0, the least share of it that an order of the batch left.

    Below 0 an order was made smaller, or denied. Rules that judged nothing are left out.
    """
    judged = columns.outcomes >= 0
    limits = np.where(columns.limits[judged] > 0.0, columns.limits[judged], np.nan)
    if not len(limits):
        return {}
    # NaN is what a rule does not know, and is passed over.
    least = np.fmin.reduce((limits - columns.values[judged]) / limits, axis=0).tolist()
    return {name: share for name, share in zip(NAMES, least, strict=True) if math.isfinite(share)}
