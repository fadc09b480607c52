"""A restricted symbol may only be left."""

from __future__ import annotations

from trading.risk.limits import LimitRow
from trading.risk.model import Account, Finding, Line, Order, Past, exit_room, exits, flag, off, rule

NAME, UNIT, PARAMETERS = "restricted_list", "", ("restricted",)
SERVES = "MAR art. 8; SEC 15c3-5(c)(2)(ii): restricted securities"
BLIND = "knows each symbol from the limits file"


@rule
def check(order: Order, line: Line, account: Account, past: Past, limits: LimitRow) -> Finding:
    """Clips to what closes the position."""
    if not limits.restricted:
        return off()
    return flag(exits(order, line), exit_room(order, line))
