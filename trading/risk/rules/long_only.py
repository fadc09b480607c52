"""A symbol that must not be sold short: the position stays at or above zero."""

from __future__ import annotations

from trading.risk.limits import LimitRow
from trading.risk.model import Account, Finding, Line, Order, Past, exit_room, exits, flag, off, rule

NAME, UNIT, PARAMETERS = "long_only", "", ("long_only",)
SERVES = "SSR (EU) 236/2012, Regulation SHO; the mandate"
BLIND = "denies: an unknown position may be none"


@rule
def check(order: Order, line: Line, account: Account, past: Past, limits: LimitRow) -> Finding:
    """Working sales count as filled."""
    if not limits.long_only:
        return off()
    return flag(order.quantity > 0.0 or exits(order, line), exit_room(order, line))
