"""The order's quantity must be a multiple of the instrument's lot."""

from __future__ import annotations

import numpy as np

from trading.compiled import inline
from trading.risk.limits import LimitRow
from trading.risk.measures import flag
from trading.risk.model import Account, CheckResult, Order, Position, RollingWindows
from trading.risk.proof import Begin, Shown

NAME, UNIT, PARAMETERS = "lot_size", "", ("lot",)
REGULATION = "venue's contract specification"
ON_MISSING_DATA = "denies: an unknown quantity is no multiple"
ALWAYS_ON = True
#: Of a lot: quantities come as binary fractions of decimal numbers.
ALLOWED = 1e-6


@inline
def check(
    order: Order, position: Position, account: Account, windows: RollingWindows, limits: LimitRow
) -> CheckResult:
    """An odd lot is rounded toward zero."""
    lots = abs(order.quantity) / limits.lot
    return flag(abs(lots - np.floor(lots + 0.5)) <= ALLOWED, np.floor(lots) * limits.lot)


def prove(begin: Begin) -> Shown:
    """An order that must be denied, and one that must pass."""
    case = begin()
    lot = case.limits.lot
    return (f"buy {1.5 * lot:g}", case.order(1.5 * lot)), (f"buy {2 * lot:g}", case.order(2 * lot))
