"""The order's price must be a multiple of the instrument's price increment (tick size)."""

from __future__ import annotations

import math

import numpy as np

from trading.risk.limits import LimitRow
from trading.risk.model import Account, Finding, Line, Order, Past, flag, off, rule

NAME, UNIT, PARAMETERS = "price_increment", "", ("price_increment",)
SERVES = "RTS 11 (EU 2017/588): tick sizes"
BLIND = "denies: an unknown price is no multiple"
#: Of an increment: prices come as binary fractions of decimal numbers.
ALLOWED = 1e-6


@rule
def check(order: Order, line: Line, account: Account, past: Past, limits: LimitRow) -> Finding:
    """The limit price where there is one, else the touch."""
    if limits.price_increment == 0.0:
        return off()
    price = order.price if math.isnan(order.limit_price) else order.limit_price
    steps = price / limits.price_increment
    return flag(abs(steps - np.floor(steps + 0.5)) <= ALLOWED, 0.0)
