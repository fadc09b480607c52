"""Sum over symbols of the exposures after the order, working orders filled, in money."""

from __future__ import annotations

import math

from trading.risk.limits import LimitRow
from trading.risk.model import Account, Finding, Line, Order, Past, gross_within, off, rule

NAME, UNIT, PARAMETERS = "gross_exposure", "money", ("max_gross_notional",)
SERVES = "RTS 6 art. 15(4): limits from the capital base; SEC 15c3-5(c)(1)(i)"
BLIND = "denies: a position without a mark cannot be added"


@rule
def check(order: Order, line: Line, account: Account, past: Past, limits: LimitRow) -> Finding:
    """The book's own share of the limit."""
    if math.isinf(limits.max_gross_notional):
        return off()
    return gross_within(order, line, account, limits.max_gross_notional)
