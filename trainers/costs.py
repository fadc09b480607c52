"""What a trade costs."""

from __future__ import annotations

import math

import numpy as np
from msgspec import Struct

from trading.arrays import FloatArray
from trading.errors import ConfigurationError


class Costs(Struct, frozen=True, forbid_unknown_fields=True):
    """Of each unit of notional traded, in basis points.

    Attributes:
        fee_bps: paid to broker and exchange.
        slippage_bps: what the price moves between deciding and filling.
        half_spread_bps: for a source without quotes; else the spread is the one that stood.
    """

    fee_bps: float = 0.5
    slippage_bps: float = 0.5
    half_spread_bps: float = 1.0

    def check(self) -> Costs:
        """Itself. Raises ConfigurationError for a cost that is none."""
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if not 0.0 <= value < math.inf:
                raise ConfigurationError(f"{name} {value} is no cost: expected 0 or more basis points")
        return self

    @property
    def beyond_spread(self) -> float:
        """Fee and slippage, as a share of the notional."""
        return (self.fee_bps + self.slippage_bps) * 1e-4

    @property
    def traded_bps(self) -> float:
        """Fee, slippage and the spread of a source without quotes, in basis points."""
        return self.fee_bps + self.slippage_bps + self.half_spread_bps

    def unit(self, half_spread: FloatArray) -> FloatArray:
        """Share of the notional that a trade pays, float64 [n]; `half_spread` NaN where there is no quote."""
        spread = np.where(np.isnan(half_spread), self.half_spread_bps * 1e-4, half_spread)
        found: FloatArray = spread + self.beyond_spread
        return found
