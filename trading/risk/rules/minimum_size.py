"""The order must be worth sending: the instrument's smallest quantity and notional.

An exit passes: what is too small to be opened must still be closed.
"""

from __future__ import annotations

import math

from trading.risk.limits import LimitRow
from trading.risk.model import TINY, Account, Finding, Line, Order, Past, exits, flag, off, price_of, rule

NAME, UNIT, PARAMETERS = "minimum_size", "", ("min_quantity", "min_notional")
SERVES = "venue's contract specification"
BLIND = "denies: an order of unknown worth may be too small"


@rule
def check(order: Order, line: Line, account: Account, past: Past, limits: LimitRow) -> Finding:
    """In units, and in money at the order's price."""
    if limits.min_quantity == 0.0 and limits.min_notional == 0.0:
        return off()
    worth = abs(order.quantity) * price_of(order, line)
    enough = abs(order.quantity) >= limits.min_quantity * (1.0 - TINY) and worth >= limits.min_notional * (
        1.0 - TINY
    )
    return flag(enough or (exits(order, line) and math.isfinite(worth)), 0.0)
