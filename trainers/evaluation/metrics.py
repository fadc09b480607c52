"""Figures of a path of returns."""

from __future__ import annotations

import math

import numpy as np
from msgspec import Struct

from trading.arrays import FloatArray, Int64Array
from trading.market import MID
from trading.spans import UNITS_NS, span_text
from trainers.data.dataset import Dataset
from trainers.evaluation.backtest import Path

YEAR_NS = 365.25 * UNITS_NS["d"]
PERIODS_NS = (UNITS_NS["s"], 10 * UNITS_NS["s"], UNITS_NS["m"], 10 * UNITS_NS["m"], UNITS_NS["h"], UNITS_NS["d"])
#: Returns are added up over the shortest period of which the span has at most so many.
MOST_PERIODS = 5_000
#: A shorter span is not annualised.
MIN_YEAR_SHARE = 0.05
#: Square-root law of market impact: impact = Y sigma sqrt(Q / V), Y near 1 (Almgren et al. 2005; Toth et al. 2011).
IMPACT_Y = 1.0


class ReturnSeries(Struct, frozen=True):
    """Returns by period.

    Attributes:
        period_ns: of each; periods without a row are left out.
        time_ns: int64 [p], when each begins.
        net, gross: float64 [p], shares of the capital.
        turnover: float64 [p], notional traded as a share of the capital.
    """

    period_ns: int
    time_ns: Int64Array
    net: FloatArray
    gross: FloatArray
    turnover: FloatArray


class PerformanceFigures(Struct, frozen=True):
    """Of one path; returns are shares of the capital, net of costs unless said otherwise.

    Attributes:
        total, gross: sums of returns, after and before costs.
        mean_bps: mean return a period, in basis points.
        sharpe, sortino: annualised by the number of periods a year that the data has; 0 for constant returns, NaN
            where the data span less than MIN_YEAR_SHARE of a year: an hour says nothing about a year.
        t_statistic: of the mean, not annualised.
        max_drawdown: largest fall of the sum of returns from its peak.
        turnover: capital traded, a period.
        hit_rate: share of periods with a gain among those with a gain or a loss; NaN without any.
        capacity: notional a trade at which impact takes the whole edge; 0 without an edge, NaN without volumes.
        periods: how many there are, and `period` how long each is.
        wanted, denied, clipped: orders, and what the risk rules did to them.
    """

    total: float
    gross: float
    mean_bps: float
    sharpe: float
    sortino: float
    t_statistic: float
    max_drawdown: float
    turnover: float
    hit_rate: float
    capacity: float
    periods: int
    period: str
    wanted: int
    denied: int
    clipped: int


def period_for(span_ns: int) -> int:
    """The shortest period of which a span has at most MOST_PERIODS."""
    return next((p for p in PERIODS_NS if span_ns / p <= MOST_PERIODS), PERIODS_NS[-1])


def series(path: Path, time_ns: Int64Array) -> ReturnSeries:
    """Add up a path's returns by period; `time_ns` [n] are its rows' event times."""
    period = period_for(int(time_ns.max() - time_ns.min()))
    cells, which = np.unique(np.asarray(time_ns // period, np.int64), return_inverse=True)
    count = len(cells)

    def added(values: FloatArray) -> FloatArray:
        return np.bincount(which, values, count).astype(np.float64)

    return ReturnSeries(
        period, cells * period, added(path.net), added(path.gross / path.capital), added(path.traded / path.capital)
    )  # fmt: skip


def figures(path: Path, data: Dataset) -> PerformanceFigures:
    """All figures of a path."""
    made = series(path, data.time_ns[path.rows])
    r, n = made.net, len(made.net)
    a_year = periods_a_year(made)
    drawn = np.maximum.accumulate(np.concatenate([[0.0], np.cumsum(r)])) - np.concatenate([[0.0], np.cumsum(r)])
    moved = r[np.abs(r) > 1e-15]
    return PerformanceFigures(
        total=float(r.sum()), gross=float(made.gross.sum()), mean_bps=float(r.mean() * 1e4),
        sharpe=sharpe(r) * math.sqrt(a_year), sortino=sortino(r) * math.sqrt(a_year),
        t_statistic=sharpe(r) * math.sqrt(n), max_drawdown=float(drawn.max()), turnover=float(made.turnover.mean()),
        hit_rate=float((moved > 0).mean()) if len(moved) else math.nan, capacity=capacity(path, data), periods=n,
        period=span_text(made.period_ns), wanted=path.wanted, denied=path.denied, clipped=path.clipped,
    )  # fmt: skip


def periods_a_year(made: ReturnSeries) -> float:
    """How many periods with rows a year has, at the rate of the data; NaN for a span that is too short."""
    span = float(made.time_ns[-1] - made.time_ns[0] + made.period_ns)
    return len(made.time_ns) * YEAR_NS / span if span >= MIN_YEAR_SHARE * YEAR_NS else math.nan


def sharpe(returns: FloatArray) -> float:
    """Mean over deviation (Sharpe 1994), a period; 0 for constant returns."""
    deviation = float(returns.std())
    return float(returns.mean()) / deviation if deviation > 1e-15 else 0.0


def sortino(returns: FloatArray) -> float:
    """Mean over the root mean square of losses (Sortino and van der Meer 1991), a period; 0 without losses."""
    down = math.sqrt(float(np.mean(np.minimum(returns, 0.0) ** 2)))
    return float(returns.mean()) / down if down > 1e-15 else 0.0


def capacity(path: Path, data: Dataset) -> float:
    """Notional of a trade whose market impact takes the whole net gain of a unit traded.

    With e the net gain for each unit of notional traded, sigma the daily deviation and V the daily notional:
    Y sigma sqrt(Q / V) = e, so Q = V (e / (Y sigma))^2.
    """
    rows = path.rows
    value = float(np.nansum(data.volume[rows] * data.market[rows, MID]))
    if not data.manifest.sized or value <= 0.0:
        return math.nan
    traded, gained = float(path.traded.sum()), float((path.gross - path.cost).sum())
    if gained <= 0.0 or traded <= 0.0:
        return 0.0
    symbols, days = len(np.unique(data.symbols[rows])), (np.ptp(data.time_ns[rows]) + 1) / UNITS_NS["d"]
    daily = value / days / symbols
    variance = float(np.mean(data.labels.deviation[rows] ** 2)) / (data.manifest.horizon_ns / UNITS_NS["d"])
    return daily * (gained / traded / (IMPACT_Y * math.sqrt(variance))) ** 2 if variance > 0 else math.nan
