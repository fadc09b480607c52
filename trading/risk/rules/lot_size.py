"""The order's quantity must be a multiple of the instrument's lot."""

from __future__ import annotations

import numpy as np

from trading.risk.limits import LimitRow
from trading.risk.model import Account, Finding, Line, Order, Past, flag, rule

NAME, UNIT, PARAMETERS = "lot_size", "", ("lot",)
SERVES = "venue's contract specification"
BLIND = "denies: an unknown quantity is no multiple"
#: Of a lot: quantities come as binary fractions of decimal numbers.
ALLOWED = 1e-6


@rule
def check(order: Order, line: Line, account: Account, past: Past, limits: LimitRow) -> Finding:
    """An odd lot is rounded toward zero."""
    lots = abs(order.quantity) / limits.lot
    return flag(abs(lots - np.floor(lots + 0.5)) <= ALLOWED, np.floor(lots) * limits.lot)
