"""One arm's book: what it earns is what its positions earn."""

from __future__ import annotations

import numpy as np
import pytest

from services.experiments.arm_book import ArmAnswers, ArmBook, SharedTicks
from services.experiments.partition_shadow import NO_HOLDS, NO_ROWS, NO_TARGETS
from tests.fakes import SECOND, limit_set
from trading.decision.columns import TickColumns
from trading.events import Command, PartitionEvents
from trading.experiments.definition import TradingCosts
from trading.risk.trading_state import ACTIVE

T0 = 1_700_000_000 * SECOND


def ticks(mids, state=ACTIVE):
    """One symbol's, a second apart, with a spread of 2."""
    n, mids = len(mids), np.array(mids, float)
    times = T0 + np.arange(n) * SECOND
    market = np.stack([mids - 1.0, mids + 1.0, mids, mids], axis=1)
    columns = TickColumns(
        NO_ROWS, np.arange(n), times, times, times, market, np.ones(n, np.bool_), NO_HOLDS, NO_TARGETS
    )
    return SharedTicks(["A"] * n, columns, state, np.inf)


def wants(*targets):
    n = len(targets)
    return ArmAnswers(np.array(targets, float), np.full(n, -1, np.int8))


def book(costs=TradingCosts(0.0, 0.0), **limits):  # noqa: B008 - frozen
    return ArmBook(limit_set(1, capital=1e6, max_position_notional=1e4, **limits), 0.05, costs)


def test_it_earns_what_its_position_earns_less_the_spread():
    one = book()
    one.decide(ticks([100.0, 110.0]), wants(1.0, 1.0))
    found = one.close()
    units = one.book.quantity("A")
    assert units > 0.0
    # Bought at 101, marked at 110; more was bought, or sold, as the limit in money moved.
    assert found.profit == pytest.approx(units * 9.0, rel=0.1)
    assert (found.rows, found.answered, found.errors) == (2, 2, 0)


def test_capital_that_limits_bring_is_not_earned():
    one = book()
    one.decide(ticks([100.0]), wants(1.0))
    one.close()
    more = limit_set(1, capital=5e6, max_position_notional=1e4)
    one.take(PartitionEvents([(Command("limits", "", "more", "test", 0), more)], 1, [], 0))
    one.decide(ticks([100.0]), wants(1.0))
    assert one.book.equity > 4.9e6
    assert abs(one.close().profit) < 100.0


def test_rules_that_were_broken_are_told():
    one = book(max_order_notional=1e-3, lot=1.0)
    one.decide(ticks([100.0, 100.0]), wants(1.0, 1.0))
    found = one.close()
    assert (found.orders, found.denied) == (2, 2)
    assert sum(found.broken.values()) >= 2
    # And of a block alone.
    one.decide(ticks([100.0]), wants(0.0))
    assert one.close().broken == {}
