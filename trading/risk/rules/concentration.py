"""One symbol's share of the book: its exposure / the greater of gross exposure and equity.

Against gross exposure alone the first position of a book would be all of it; against equity alone a
book of many positions could be one position and its hedges.
"""

from __future__ import annotations

import math

from trading.compiled import inline
from trading.risk.limits import LimitRow
from trading.risk.measures import (
    at_least_exit,
    equity,
    exposure_after,
    is_reducing,
    off,
    others_gross,
    passes,
    price_of,
    room_on_side,
    within,
)
from trading.risk.model import Account, CheckResult, Order, Position, RollingWindows
from trading.risk.proof import CAPITAL, PRICE, Begin, Shown, beyond, set_limit

NAME, UNIT, PARAMETERS = "concentration", "share", ("max_concentration",)
REGULATION = "UCITS 5/10/40, CRR art. 395: large exposures; the mandate"
ON_MISSING_DATA = "denies: a share of what is not known"


@inline
def check(
    order: Order, position: Position, account: Account, windows: RollingWindows, limits: LimitRow
) -> CheckResult:
    """Largest exposure v with v <= share x max(others + v, equity)."""
    share = limits.max_concentration
    if math.isinf(share):
        return off()
    others, own, price = others_gross(position, account), exposure_after(order, position), price_of(order, position)
    whole = max(others + own, equity(account))
    value = own / whole if whole > 0.0 else math.nan
    if is_reducing(order, position):
        return passes(value, share)
    largest = share * equity(account)
    if share < 1.0:
        largest = max(largest, share * others / (1.0 - share))
    allowed = room_on_side(order, position, largest / price) if price > 0.0 else 0.0
    return at_least_exit(within(value, share, allowed), order, position)


def prove(begin: Begin) -> Shown:
    """An order that must be denied, and one that must pass."""
    case = begin()
    return beyond(case, set_limit(case.limits.max_concentration) * CAPITAL / PRICE)
