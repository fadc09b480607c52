"""One symbol's share of the book: its exposure / the greater of gross exposure and equity.

Against gross exposure alone the first position of a book would be all of it; against equity alone a
book of many positions could be one position and its hedges.
"""

from __future__ import annotations

import math

from trading.risk.limits import LimitRow
from trading.risk.model import (
    Account,
    Finding,
    Line,
    Order,
    Past,
    at_least_exit,
    equity,
    exits,
    exposure_after,
    off,
    others_gross,
    passes,
    price_of,
    room_on_side,
    rule,
    within,
)

NAME, UNIT, PARAMETERS = "concentration", "share", ("max_concentration",)
SERVES = "UCITS 5/10/40, CRR art. 395: large exposures; the mandate"
BLIND = "denies: a share of what is not known"


@rule
def check(order: Order, line: Line, account: Account, past: Past, limits: LimitRow) -> Finding:
    """Largest exposure v with v <= share x max(others + v, equity)."""
    share = limits.max_concentration
    if math.isinf(share):
        return off()
    others, own, price = others_gross(line, account), exposure_after(order, line), price_of(order, line)
    whole = max(others + own, equity(account))
    value = own / whole if whole > 0.0 else math.nan
    if exits(order, line):
        return passes(value, share)
    largest = share * equity(account)
    if share < 1.0:
        largest = max(largest, share * others / (1.0 - share))
    allowed = room_on_side(order, line, largest / price) if price > 0.0 else 0.0
    return at_least_exit(within(value, share, allowed), order, line)
