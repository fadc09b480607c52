"""abs(quantity) x reference price of one order; no reference price denies."""

from __future__ import annotations

from gateway.domain.risk.model import Finding, Intent, Limits, within

NAME = "order_notional"


def check(intent: Intent, limits: Limits) -> Finding:
    """Money in the quote currency."""
    price = intent.reference_price
    allowed = limits.max_order_notional / price if price > 0.0 else 0.0
    return within(NAME, abs(intent.quantity) * price, limits.max_order_notional, allowed)
