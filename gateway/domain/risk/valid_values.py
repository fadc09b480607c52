"""Prices and quantities must be finite and positive, and the quote must not be crossed."""

from __future__ import annotations

import math

from gateway.domain.risk.model import Finding, Intent, Limits, flag

NAME = "valid_values"


def check(intent: Intent, limits: Limits) -> Finding:
    """Deny an order that no arithmetic can be trusted with."""
    price_ok = math.isfinite(intent.reference_price) and intent.reference_price > 0.0
    size_ok = math.isfinite(intent.quantity) and intent.quantity != 0.0 and math.isfinite(intent.position)
    # NaN compares false: an unknown quote is not a crossed one.
    crossed = intent.bid > intent.ask
    return flag(NAME, price_ok and size_ok and not crossed)
