"""Sum over symbols of abs(position) x mark after the order. Exits always pass, and so does the
part of a flip that closes the position, even where the others cannot be valued.
"""

from __future__ import annotations

import math

from gateway.domain.risk.model import Finding, Intent, Limits, flag, within

NAME = "gross_exposure"


def check(intent: Intent, limits: Limits) -> Finding:
    """Money in the quote currency, over the book of the tick's partition."""
    price = intent.reference_price
    if intent.reduces and math.isfinite(price):
        return flag(NAME, True)
    after = intent.position + intent.quantity
    gross = intent.gross_without + abs(after) * price
    room = limits.max_gross_notional - intent.gross_without
    side = 1.0 if intent.quantity > 0.0 else -1.0
    allowed = room / price - side * intent.position if price > 0.0 else 0.0
    closing = abs(intent.position) if intent.position * intent.quantity < 0.0 and math.isfinite(price) else 0.0
    finding = within(NAME, gross, limits.max_gross_notional, allowed if math.isfinite(allowed) else 0.0)
    return Finding(finding.result, max(finding.max_quantity, closing))
