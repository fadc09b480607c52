"""Every rule is evaluated and recorded; the verdict is accept, clip or deny."""

from __future__ import annotations

import math
from types import ModuleType
from typing import NamedTuple

from trading.arrays import CodeArray, FloatArray
from trading.risk.limits import LimitRow
from trading.risk.model import BROKEN, Account, Finding, Line, Order, Past, inline
from trading.risk.rules import (
    concentration,
    cooldown,
    daily_loss,
    desk_exposure,
    drawdown,
    duplicate_order,
    gross_exposure,
    kill_switch,
    leverage,
    long_only,
    lot_size,
    minimum_size,
    net_exposure,
    order_notional,
    order_rate,
    order_rate_symbol,
    order_size,
    position_limit,
    price_collar,
    price_increment,
    repeated_execution,
    restricted_list,
    session_hours,
    stale_data,
    trading_state,
    valid_values,
    value_at_risk,
)

#: In the order in which they are recorded.
MODULES: tuple[ModuleType, ...] = (
    valid_values,
    price_increment,
    lot_size,
    minimum_size,
    order_size,
    order_notional,
    price_collar,
    stale_data,
    duplicate_order,
    order_rate_symbol,
    order_rate,
    repeated_execution,
    kill_switch,
    trading_state,
    restricted_list,
    long_only,
    session_hours,
    position_limit,
    concentration,
    gross_exposure,
    net_exposure,
    leverage,
    drawdown,
    daily_loss,
    cooldown,
    value_at_risk,
    desk_exposure,
)
RULES: dict[str, ModuleType] = {module.NAME: module for module in MODULES}
NAMES = tuple(RULES)
COUNT = len(NAMES)
ACCEPT, CLIP, DENY = 0, 1, 2


class Sheet(NamedTuple):
    """Where the findings of one order are written.

    Attributes:
        results: int8 [rules], BROKEN, PASSED or OFF.
        values, limits: float64 [rules]; NaN where there is none.
    """

    results: CodeArray
    values: FloatArray
    limits: FloatArray


class Ruling(NamedTuple):
    """ACCEPT, CLIP or DENY, and the signed quantity that may be traded, in units."""

    outcome: int
    quantity: float


@inline
def tidy(quantity: float) -> float:
    """The double nearest to the same number with ten decimals, as far as a double has them."""
    scaled = abs(quantity) * 1e10
    if not scaled < 2.0**53:
        return quantity
    return math.copysign(math.floor(scaled + 0.5) / 1e10, quantity)


@inline
def round_to_lot(quantity: float, lot: float) -> float:
    """Toward zero to a multiple of `lot`."""
    return tidy(math.copysign(math.floor(abs(quantity) / lot + 1e-9) * lot, quantity))


@inline
def note(sheet: Sheet, place: int, found: Finding) -> float:
    """Record a finding; returns the quantity that it allows."""
    sheet.results[place] = found.result
    sheet.values[place] = found.value
    sheet.limits[place] = found.limit
    return found.max_quantity if found.result == BROKEN else math.inf


@inline
def evaluate(order: Order, line: Line, account: Account, past: Past, limits: LimitRow, sheet: Sheet) -> float:
    """Every rule, recorded; returns the largest abs(quantity) that all of them allow (inf: any)."""
    allowed = note(sheet, 0, valid_values.check(order, line, account, past, limits))
    allowed = min(allowed, note(sheet, 1, price_increment.check(order, line, account, past, limits)))
    allowed = min(allowed, note(sheet, 2, lot_size.check(order, line, account, past, limits)))
    allowed = min(allowed, note(sheet, 3, minimum_size.check(order, line, account, past, limits)))
    allowed = min(allowed, note(sheet, 4, order_size.check(order, line, account, past, limits)))
    allowed = min(allowed, note(sheet, 5, order_notional.check(order, line, account, past, limits)))
    allowed = min(allowed, note(sheet, 6, price_collar.check(order, line, account, past, limits)))
    allowed = min(allowed, note(sheet, 7, stale_data.check(order, line, account, past, limits)))
    allowed = min(allowed, note(sheet, 8, duplicate_order.check(order, line, account, past, limits)))
    allowed = min(allowed, note(sheet, 9, order_rate_symbol.check(order, line, account, past, limits)))
    allowed = min(allowed, note(sheet, 10, order_rate.check(order, line, account, past, limits)))
    allowed = min(allowed, note(sheet, 11, repeated_execution.check(order, line, account, past, limits)))
    allowed = min(allowed, note(sheet, 12, kill_switch.check(order, line, account, past, limits)))
    allowed = min(allowed, note(sheet, 13, trading_state.check(order, line, account, past, limits)))
    allowed = min(allowed, note(sheet, 14, restricted_list.check(order, line, account, past, limits)))
    allowed = min(allowed, note(sheet, 15, long_only.check(order, line, account, past, limits)))
    allowed = min(allowed, note(sheet, 16, session_hours.check(order, line, account, past, limits)))
    allowed = min(allowed, note(sheet, 17, position_limit.check(order, line, account, past, limits)))
    allowed = min(allowed, note(sheet, 18, concentration.check(order, line, account, past, limits)))
    allowed = min(allowed, note(sheet, 19, gross_exposure.check(order, line, account, past, limits)))
    allowed = min(allowed, note(sheet, 20, net_exposure.check(order, line, account, past, limits)))
    allowed = min(allowed, note(sheet, 21, leverage.check(order, line, account, past, limits)))
    allowed = min(allowed, note(sheet, 22, drawdown.check(order, line, account, past, limits)))
    allowed = min(allowed, note(sheet, 23, daily_loss.check(order, line, account, past, limits)))
    allowed = min(allowed, note(sheet, 24, cooldown.check(order, line, account, past, limits)))
    allowed = min(allowed, note(sheet, 25, value_at_risk.check(order, line, account, past, limits)))
    return min(allowed, note(sheet, 26, desk_exposure.check(order, line, account, past, limits)))


@inline
def any_broken(results: CodeArray) -> bool:
    """Without an array in between."""
    for result in results:  # noqa: SIM110 - compiled
        if result == BROKEN:
            return True
    return False


@inline
def assess(
    order: Order, line: Line, account: Account, past: Past, limits: LimitRow, sheet: Sheet, again: Sheet
) -> Ruling:
    """Judge an order against every rule.

    Args:
        order, line, account, past, limits: what the rules see.
        sheet: written: every rule's finding for the quantity that was asked for.
        again: written: the same for the clipped quantity, which is denied if it breaks a rule itself.

    Returns:
        The verdict. A clipped quantity is rounded down to the symbol's lot.
    """
    asked, into = order, sheet
    # Floating point: what a rule divided may lie a last place beyond its limit; a lot less does not.
    for attempt in range(3):
        allowed = evaluate(asked, line, account, past, limits, into)
        if not any_broken(into.results):
            return Ruling(CLIP if attempt else ACCEPT, asked.quantity)
        if attempt == 0:
            clipped = round_to_lot(allowed, limits.lot) if math.isfinite(allowed) else 0.0
        else:
            clipped = tidy(abs(asked.quantity) - limits.lot)
        if not 0.0 < clipped < abs(asked.quantity):
            break
        asked, into = resized(order, math.copysign(clipped, order.quantity)), again
    return Ruling(DENY, 0.0)


@inline
def resized(order: Order, quantity: float) -> Order:
    """The same order for another quantity."""
    return Order(
        quantity,
        order.price,
        order.limit_price,
        order.bid,
        order.ask,
        order.mid,
        order.number,
        order.now_ns,
        order.age_ns,
        order.state,
        order.in_session,
        order.desk_quota,
    )
