"""What rules measure: where an order leads, what it is worth, what of it may pass. Compiled."""

from __future__ import annotations

import math

import numpy as np

from trading.compiled import inline
from trading.risk.model import BROKEN, OFF, PASSED, TINY, Account, CheckResult, Order, Position


@inline
def within(value: float, limit: float, max_quantity: float) -> CheckResult:
    """Pass when value <= limit. A value that is not finite fails, with no size allowed."""
    if not (math.isfinite(value) and math.isfinite(limit)):
        return CheckResult(BROKEN, np.nan, limit, 0.0)
    if value <= limit:
        return CheckResult(PASSED, value, limit, np.inf)
    return CheckResult(BROKEN, value, limit, max(0.0, max_quantity) if math.isfinite(max_quantity) else 0.0)


@inline
def flag(passed: bool, max_quantity: float) -> CheckResult:
    """A rule without a number; `max_quantity` is what would pass where this does not."""
    return (
        CheckResult(PASSED, np.nan, np.nan, np.inf) if passed else CheckResult(BROKEN, np.nan, np.nan, max_quantity)
    )


@inline
def off() -> CheckResult:
    """The limit is not set."""
    return CheckResult(OFF, np.nan, np.nan, np.inf)


@inline
def passes(value: float, limit: float) -> CheckResult:
    """The rule would be cured by this order, whatever its value is."""
    return CheckResult(PASSED, value, limit, np.inf)


@inline
def reducible_quantity(order: Order, position: Position) -> float:
    """Units that only shrink abs(position): what the working exits leave of it, on the order's side; else 0."""
    if order.quantity < 0.0:
        return max(0.0, position.quantity - position.selling)
    return max(0.0, -position.quantity - position.buying)


@inline
def is_reducing(order: Order, position: Position) -> bool:
    """Whether the order only shrinks abs(position), without crossing zero even when all exits fill."""
    return abs(order.quantity) <= reducible_quantity(order, position) * (1.0 + TINY)


@inline
def resulting_position(order: Order, position: Position) -> float:
    """Signed position if the order and all that work on its side fill, in units."""
    if order.quantity > 0.0:
        return position.quantity + position.buying + order.quantity
    return position.quantity - position.selling + order.quantity


@inline
def worst_case_position(position: Position) -> float:
    """The largest abs(position) that the working orders could make, in units."""
    return max(
        abs(position.quantity), abs(position.quantity + position.buying), abs(position.quantity - position.selling)
    )


@inline
def price_of(order: Order, position: Position) -> float:
    """Of one unit, in money; the worst of the touch and the order's own limit."""
    price = order.price
    if order.limit_price > price and order.quantity > 0.0:
        price = order.limit_price
    return price * position.rate


@inline
def exposure_after(order: Order, position: Position) -> float:
    """What the position could be worth when everything fills, in money, at the order's price."""
    side = resulting_position(order, position)
    other = position.quantity - position.selling if order.quantity > 0.0 else position.quantity + position.buying
    return max(abs(side), abs(other), abs(position.quantity)) * price_of(order, position)


@inline
def exposure_before(position: Position) -> float:
    """What the account's gross exposure counts of the position, in money; NaN when it cannot be known."""
    units = worst_case_position(position)
    return units * position.mark * position.rate if units > 0.0 else 0.0


@inline
def is_unpriced(position: Position) -> bool:
    """Whether the position holds something that cannot be valued."""
    return math.isnan(exposure_before(position)) or (position.cash != 0.0 and math.isnan(position.rate))


@inline
def others_gross(position: Position, account: Account) -> float:
    """Gross exposure of the other lines, in money; NaN when a position cannot be valued."""
    return (
        max(0.0, (account.gross - exposure_before(position)) + account.gross_rest)
        if account.unpriced == 0
        else np.nan
    )


@inline
def equity(account: Account) -> float:
    """In money; NaN when a position cannot be valued."""
    return account.capital + account.worth if account.unpriced == 0 else np.nan


@inline
def room_on_side(order: Order, position: Position, largest: float) -> float:
    """Units until abs(position with the working orders of the side) is `largest` units."""
    before = position.quantity + position.buying if order.quantity > 0.0 else position.quantity - position.selling
    side = 1.0 if order.quantity > 0.0 else -1.0
    return largest - side * before


@inline
def at_least_exit(found: CheckResult, order: Order, position: Position) -> CheckResult:
    """The part that only closes the position passes in any case."""
    if found.result != BROKEN:
        return found
    return CheckResult(
        found.result, found.value, found.limit, max(found.max_quantity, reducible_quantity(order, position))
    )


@inline
def gross_within(order: Order, position: Position, account: Account, limit: float) -> CheckResult:
    """The book's gross exposure after the order against a limit in money; clips, and exits pass."""
    others, price = others_gross(position, account), price_of(order, position)
    value = others + exposure_after(order, position)
    if is_reducing(order, position):
        return passes(value, limit)
    allowed = room_on_side(order, position, (limit - others) / price) if price > 0.0 else 0.0
    return at_least_exit(within(value, limit, allowed), order, position)


@inline
def loss_within(value: float, limit: float, latched: bool, order: Order, position: Position) -> CheckResult:
    """A loss that has latched is broken until a human resets it, however it has recovered; exits pass."""
    if is_reducing(order, position):
        return passes(value, limit)
    found = within(value, limit, 0.0)
    if latched and math.isfinite(value):
        found = CheckResult(BROKEN, value, limit, 0.0)
    return at_least_exit(found, order, position)
