"""How a blended target becomes an order."""

from __future__ import annotations

from msgspec import Struct

from trading.risk.limits import LimitSet

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
