"""abs(quantity) of one order."""

from __future__ import annotations

from gateway.domain.risk.model import Finding, Intent, Limits, within

NAME = "order_size"


def check(intent: Intent, limits: Limits) -> Finding:
    """Units."""
    return within(NAME, abs(intent.quantity), limits.max_order_quantity, limits.max_order_quantity)
