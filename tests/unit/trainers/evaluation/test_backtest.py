"""Money: counted by hand where it can be, by the gateway's own code everywhere."""

from __future__ import annotations

import math

import numpy as np
import pytest
from msgspec.structs import replace

from trading.errors import ConfigurationError
from trading.risk.limits import LimitSet, LimitsFile
from trainers.costs import Costs
from trainers.evaluation import backtest, baselines, metrics
from trainers.evaluation.backtest import Path

FREE = Costs(0.0, 0.0, 0.0)
SECOND = 1_000_000_000


def quoted(data, bid, ask, n=None):
    """The first rows of a dataset's first symbol, with these quotes."""
    rows = np.flatnonzero(data.symbols == 0)[: n or len(bid)]
    market = data.market.copy()
    market[rows, 0], market[rows, 1] = bid, ask
    market[rows, 3] = 0.5 * (np.array(bid) + np.array(ask))
    return replace(data, market=market, names=data.names[:1]), rows


def test_gains_and_costs_are_those_that_a_person_would_count(small):
    bid, ask = [99.0, 100.0, 102.0, 101.0], [101.0, 102.0, 104.0, 103.0]
    data, rows = quoted(small, bid, ask)
    path = backtest.run(data, rows, np.array([0.5, 0.5, -0.5, 0.0]), Costs(1.0, 2.0, 0.0), limits_of())
    bought = round(500_000 / 100, 3)
    assert path.position[0] == bought
    # 101 -> 103: the target in units shrinks by less than the band, so the position stays.
    assert path.position[1] == bought
    short = math.ceil(-500_000 / 103 * 1000) / 1000
    assert path.position[2] == pytest.approx(short)
    assert path.position[3] == 0.0
    assert path.gross.tolist() == pytest.approx([0.0, bought, 2 * bought, -short])
    sold = bought - short
    fees = [bought * 101 * 3e-4, 0.0, sold * 102 * 3e-4, -short * 103 * 3e-4]
    assert path.cost.tolist() == pytest.approx([bought + fees[0], 0.0, sold + fees[2], -short + fees[3]])
    assert path.traded.tolist() == pytest.approx([bought * 101, 0.0, sold * 102, -short * 103])
    assert path.net.sum() == pytest.approx((path.gross - path.cost).sum() / 1e6)


def limits_of(**changes):
    """Research limits of one symbol, changed."""
    return LimitSet(
        LimitsFile(defaults={**backtest.research_limits(1).file.defaults, "price_collar": None, **changes})
    )


def test_a_source_without_quotes_pays_the_spread_that_costs_say(small):
    data, rows = quoted(small, [100.0] * 3, [100.0] * 3)
    market = data.market.copy()
    market[rows, :2] = np.nan
    market[rows, 2] = 100.0
    path = backtest.run(replace(data, market=market), rows, np.ones(3), Costs(0.0, 0.0, 2.0), limits_of())
    assert path.cost[0] == pytest.approx(1_000_000 * 2e-4, rel=1e-6)


def test_the_desks_limits_hold_in_the_backtest(small):
    data, rows = quoted(small, [99.0] * 4, [101.0] * 4)
    tight = backtest.run(data, rows, np.array([1.0, 1.0, -1.0, 1.0]), FREE, limits_of(max_order_notional=250_000.0))
    assert (tight.traded <= 250_001).all()
    assert tight.clipped == 4
    assert tight.broken["order_notional"] == 4
    long_only = backtest.run(data, rows, np.array([1.0, -1.0, -1.0, -1.0]), FREE, limits_of(long_only=True))
    assert (long_only.position >= 0).all()


def test_a_backtest_does_not_look_at_what_follows(small):
    rows = np.arange(2000)
    targets = np.sin(rows / 40.0)
    whole = backtest.run(small, rows, targets, Costs())
    part = backtest.run(small, rows[:1500], targets[:1500], Costs())
    np.testing.assert_array_equal(whole.position[:1500], part.position)
    np.testing.assert_array_equal(whole.cost[:1500], part.cost)


@pytest.mark.parametrize("name", ["fee_bps", "slippage_bps", "half_spread_bps"])
@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
def test_costs_are_no_gains(name, value):
    with pytest.raises(ConfigurationError, match=name):
        Costs(**{name: value}).check()


def path_of(net, traded=0.0):
    n = len(net)
    return Path(np.arange(n), np.zeros(n), np.array(net), np.zeros(n), np.full(n, traded), 0, 0, 0, {}, 1.0)


def test_returns_of_one_period_are_added_up():
    """Twenty stocks of one day are not twenty independent observations."""
    day = 86_400 * SECOND
    times = np.repeat(np.arange(400) * day, 2)
    made = metrics.series(path_of(np.tile([0.03, -0.01], 400)), times)
    assert made.period_ns == day
    np.testing.assert_allclose(made.net, 0.02)
    assert metrics.sharpe(made.net) == 0.0  # constant returns have no deviation
    assert metrics.periods_a_year(made) == pytest.approx(365.25, rel=1e-6)


def test_a_short_span_is_not_annualised(small):
    rows = np.flatnonzero(small.symbols == 0)[:1000]
    found = metrics.figures(backtest.run(small, rows, np.ones(1000), Costs()), small)
    assert math.isnan(found.sharpe)
    assert math.isfinite(found.t_statistic)


def test_figures_of_known_returns(small):
    net = np.array([0.01, -0.02, 0.03, -0.01])
    made = metrics.series(path_of(net), np.arange(4) * SECOND)
    assert metrics.sharpe(made.net) == pytest.approx(net.mean() / net.std())
    assert metrics.sortino(made.net) == pytest.approx(net.mean() / np.sqrt((0.02**2 + 0.01**2) / 4))
    seconds = np.unique(small.time_ns // SECOND, return_index=True)[1][:4]
    found = metrics.figures(replace(path_of(net), rows=seconds), small)
    assert found.max_drawdown == pytest.approx(0.02)
    assert found.hit_rate == 0.5


def test_hysteresis_keeps_a_position_until_the_signal_is_gone():
    signal = np.array([0.5, 1.2, 0.6, 0.3, 0.2, -1.5, -0.1, 2.0])
    found = baselines.hysteresis(signal, np.zeros(8, np.int64), 1.0, 0.25)
    assert found.tolist() == [0.0, 1.0, 1.0, 1.0, 0.0, -1.0, 0.0, 1.0]
    both = baselines.hysteresis(np.repeat(signal, 2), np.tile([0, 1], 8), 1.0, 0.25)
    assert both.tolist() == np.repeat(found, 2).tolist()
