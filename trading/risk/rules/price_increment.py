"""The order's price must be a multiple of the instrument's price increment (tick size)."""

from __future__ import annotations

import math

import numpy as np

from trading.compiled import inline
from trading.risk.limits import LimitRow
from trading.risk.measures import flag, off
from trading.risk.model import Account, CheckResult, Order, Position, RollingWindows
from trading.risk.proof import Begin, Shown

NAME, UNIT, PARAMETERS = "price_increment", "", ("price_increment",)
REGULATION = "RTS 11 (EU 2017/588): tick sizes"
ON_MISSING_DATA = "denies: an unknown price is no multiple, nor one too large to tell its multiples apart"
#: Units in the last place of the price: prices and increments are the binary fractions next to decimal numbers.
ALLOWED = 8.0
LAST_PLACE = 2.0**-52


@inline
def check(
    order: Order, position: Position, account: Account, windows: RollingWindows, limits: LimitRow
) -> CheckResult:
    """The limit price where there is one, else the touch."""
    if limits.price_increment == 0.0:
        return off()
    price = order.price if math.isnan(order.limit_price) else order.limit_price
    nearest = np.floor(price / limits.price_increment + 0.5) * limits.price_increment
    allowed = ALLOWED * LAST_PLACE * abs(price)
    # Where numbers of the price's size cannot tell its multiples apart, nothing is known to be one.
    return flag(abs(price - nearest) <= allowed and 2.0 * allowed < limits.price_increment, 0.0)


def prove(begin: Begin) -> Shown:
    """An order that must be denied, and one that must pass."""
    case = begin()
    step = case.limits.price_increment
    odd, even = 1000.5 * step, 1000.0 * step
    return (f"buy 1 at {odd:g}", case.order(1.0, price=odd)), (f"buy 1 at {even:g}", case.order(1.0, price=even))
