"""Forward returns in units of current volatility, and the span that each label covers."""

from __future__ import annotations

import math

import numpy as np
from msgspec import Struct

from gateway.domain.schemas import BoolArray, FloatArray, Int64Array
from trainers.dataset import Dataset

#: Cost of a trade for a source without quotes: one basis point of the notional.
DEFAULT_HALF_SPREAD = 1e-4
CLIP = 5.0
MIN_VOLATILITY = 1e-7


class Labels(Struct, frozen=True):
    """For n rows.

    Attributes:
        forward: float64 [n], return over the horizon / (volatility x sqrt(horizon)), clipped to 5.
        next_return: float64 [n], return to the symbol's next tick / volatility, clipped to 5; for
            training only.
        cost: float64 [n], half spread / volatility: what a unit change of position pays, clipped to 5;
            for training only.
        next_log_return: float64 [n], log return to the symbol's next tick, as it was.
        half_spread: float64 [n], what a unit change of position pays, relative to the price, as it was.
        valid: bool [n], whether the horizon lies within the data.
        end_ns: int64 [n], event time at which the label is known.
    """

    forward: FloatArray
    next_return: FloatArray
    cost: FloatArray
    next_log_return: FloatArray
    half_spread: FloatArray
    valid: BoolArray
    end_ns: Int64Array


def make_labels(data: Dataset, horizon: int) -> Labels:
    """Labels over `horizon` ticks of each symbol; volatility is the Wilder range known at the row."""
    # The mean absolute deviation of a normal variable is sqrt(2 / pi) of its standard deviation.
    volatility = np.maximum(data.column("range_14") * math.sqrt(math.pi / 2.0), MIN_VOLATILITY)
    ahead, valid = step_ahead(data.symbols, horizon)
    following, has_next = step_ahead(data.symbols, 1)
    forward = (data.log_mid[ahead] - data.log_mid) / (volatility * math.sqrt(horizon))
    step = (data.log_mid[following] - data.log_mid) / volatility
    half = np.where(np.isnan(data.half_spread), DEFAULT_HALF_SPREAD, data.half_spread)
    return Labels(
        forward=np.clip(forward, -CLIP, CLIP),
        next_return=np.clip(step, -CLIP, CLIP),
        cost=np.clip(half / volatility, 0.0, CLIP),
        next_log_return=data.log_mid[following] - data.log_mid,
        half_spread=half,
        valid=valid & has_next,
        end_ns=data.time_ns[ahead],
    )


def step_ahead(symbols: Int64Array, step: int) -> tuple[Int64Array, BoolArray]:
    """Index of the row `step` ticks later of the same symbol; the row itself where there is none."""
    order = np.argsort(symbols, kind="stable")
    later = np.roll(order, -step)
    valid_sorted = symbols[later] == symbols[order]
    valid_sorted[max(0, len(order) - step) :] = False
    ahead = np.arange(len(symbols))
    ahead[order] = np.where(valid_sorted, later, order)
    valid = np.zeros(len(symbols), bool)
    valid[order] = valid_sorted
    return ahead, valid
