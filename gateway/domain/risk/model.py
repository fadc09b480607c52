"""What a rule sees and what it says."""

from __future__ import annotations

import math

from msgspec import Struct

from gateway.domain.schemas import RuleResult, TradingState


class Limits(Struct, frozen=True):
    """Limits of one book. Money is in the quote currency; every comparison fails closed.

    Attributes:
        max_order_quantity: units of one order.
        max_order_notional: quantity x reference price of one order.
        max_position_notional: abs(position after the order) x reference price, a symbol.
        max_gross_notional: sum over symbols of abs(position) x mark after the order.
        max_staleness_ns: age of the tick against the stream's own clock.
        halted_allows_exits: whether HALTED lets an order through that only shrinks a position.
    """

    max_order_quantity: float = 1e9
    max_order_notional: float = 50_000.0
    max_position_notional: float = 100_000.0
    max_gross_notional: float = 1_000_000.0
    max_staleness_ns: int = 5_000_000_000
    halted_allows_exits: bool = False


class Intent(Struct, frozen=True, gc=False):
    """A wanted order.

    Attributes:
        symbol: instrument.
        quantity: signed, in units; positive buys.
        position: signed position before the order, in units.
        bid, ask: standing quote; NaN when unknown.
        reference_price: the touch on the order's own far side (ask to buy, bid to sell), or the
            latest trade for a source without quotes; NaN when unknown.
        age_ns: age of the tick against the stream's clock.
        gross_without: gross exposure of the other symbols; NaN when one of them has no mark.
    """

    symbol: str
    quantity: float
    position: float
    bid: float
    ask: float
    reference_price: float
    age_ns: int
    gross_without: float
    trading_state: TradingState

    @property
    def reduces(self) -> bool:
        """True when the order only shrinks abs(position), without crossing zero."""
        after = self.position + self.quantity
        return abs(after) < abs(self.position) and after * self.position >= 0.0


class Finding(Struct, frozen=True, gc=False):
    """A rule's result, and the largest abs(quantity) that would pass it (inf: any; 0: none)."""

    result: RuleResult
    max_quantity: float


def within(rule: str, value: float, limit: float, max_quantity: float) -> Finding:
    """Pass when value <= limit. A value or limit that is not finite fails, with no size allowed."""
    if not (math.isfinite(value) and math.isfinite(limit)):
        return Finding(RuleResult(rule, False, None, finite(limit), None), 0.0)
    if value <= limit:
        return Finding(RuleResult(rule, True, value, limit, limit - value), math.inf)
    return Finding(RuleResult(rule, False, value, limit, limit - value), max(0.0, max_quantity))


def flag(rule: str, passed: bool, max_quantity: float = 0.0) -> Finding:
    """A rule without a number."""
    return Finding(RuleResult(rule, passed, None, None, None), math.inf if passed else max_quantity)


def finite(value: float) -> float | None:
    """The value, or None where JSON has no word for it."""
    return value if math.isfinite(value) else None
