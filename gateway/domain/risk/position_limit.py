"""abs(position after the order) x reference price of the symbol. Exits always pass."""

from __future__ import annotations

import math

from gateway.domain.risk.model import Finding, Intent, Limits, flag, within

NAME = "position_limit"


def check(intent: Intent, limits: Limits) -> Finding:
    """Money in the quote currency. Working orders join when a broker reports them."""
    price = intent.reference_price
    after = intent.position + intent.quantity
    if intent.reduces and math.isfinite(price):
        return flag(NAME, True)
    allowed_position = limits.max_position_notional / price if price > 0.0 else 0.0
    side = 1.0 if intent.quantity > 0.0 else -1.0
    # From the position to the limit on the order's side.
    allowed = allowed_position - side * intent.position
    return within(NAME, abs(after) * price, limits.max_position_notional, allowed)
