"""ACTIVE allows all; REDUCING only what shrinks abs(position); HALTED nothing.

REDUCING looks at the position after the order, not at the side alone: long 1, sell 10 would
flip, and is clipped to 1. HALTED lets exits pass only where the limits say so.
"""

from __future__ import annotations

import math

from gateway.domain.risk.model import Finding, Intent, Limits, flag
from gateway.domain.schemas import TradingState

NAME = "trading_state"


def check(intent: Intent, limits: Limits) -> Finding:
    """The latched state of the desk."""
    if intent.trading_state is TradingState.ACTIVE:
        return flag(NAME, True)
    exits_allowed = intent.trading_state is TradingState.REDUCING or limits.halted_allows_exits
    if not exits_allowed or not math.isfinite(intent.position):
        return flag(NAME, False)
    opposite = intent.position * intent.quantity < 0.0
    return flag(NAME, intent.reduces, max_quantity=abs(intent.position) if opposite else 0.0)
