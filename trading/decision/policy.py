"""How a blended target becomes an order."""

from __future__ import annotations

import math

from msgspec import Struct

from trading.decision.columns import DecisionContext
from trading.risk.limits import LimitSet
from trading.risk.trading_state import ACTIVE

#: Share of the position limit below which a change of position is not traded.
REBALANCE_BAND = 0.05


class DecisionPolicy(Struct, frozen=True):
    """How a target becomes an order.

    Attributes:
        limits: of each book.
        rebalance_band: orders below this share of `max_position_notional` are not sent, so that noise in
            the target does not pay the spread.
        assumed_fills: an accepted order counts as filled at once at its reference price; else it works
            until the broker's reports come.
    """

    limits: LimitSet
    rebalance_band: float = REBALANCE_BAND
    assumed_fills: bool = True

    def context(self, limits: LimitSet, *, state: int = ACTIVE, desk_quota: float = math.nan) -> DecisionContext:
        """What the ticks of a book are decided under.

        Args:
            limits: in force for the book.
            state: severity of the trading state.
            desk_quota: gross exposure reserved for the book, in money; NaN when it cannot be known.
        """
        return DecisionContext(limits.calendar, state, desk_quota, self.rebalance_band, self.assumed_fills)
