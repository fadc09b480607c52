"""One risk rule a file, its proof beside it; this list is where a rule is entered, and nowhere else.

A rule's file has `NAME`, `UNIT`, `PARAMETERS` (the limits that it reads), `REGULATION` (whom it serves),
`ON_MISSING_DATA` (what it does when it is blind), `check` (compiled) and `prove` (an order that it must deny,
and one that it must let pass; see `trading.risk.self_test`). A rule that no limit turns off says
`ALWAYS_ON = True`; one whose limit is not simply set or absent has `is_on`; one that needs what does not come
with the ticks names it in `NEEDS`; one that is about trading hours says `WHOLE_SESSION = True`.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

#: In the order in which they are recorded.
NAMES = (
    "valid_values",
    "price_increment",
    "lot_size",
    "minimum_size",
    "order_size",
    "order_notional",
    "price_collar",
    "stale_data",
    "duplicate_order",
    "order_rate_symbol",
    "order_rate",
    "repeated_execution",
    "kill_switch",
    "trading_state",
    "restricted_list",
    "long_only",
    "session_hours",
    "position_limit",
    "concentration",
    "gross_exposure",
    "net_exposure",
    "leverage",
    "drawdown",
    "daily_loss",
    "cooldown",
    "value_at_risk",
    "desk_exposure",
)
RULES: dict[str, ModuleType] = {name: import_module(f"{__name__}.{name}") for name in NAMES}
