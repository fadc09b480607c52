"""Every rule is evaluated and recorded; the verdict is accept, clip or deny."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from trading.arrays import CodeArray, FloatArray
from trading.compiled import inline
from trading.risk.limits import LimitRow
from trading.risk.model import BROKEN, Account, CheckResult, Order, Position, RollingWindows
from trading.risk.rules import NAMES, RULES

COUNT = len(NAMES)
ACCEPT, CLIP, DENY = 0, 1, 2


class RuleResults(NamedTuple):
    """Where the results of one order's checks are written, in the order of `NAMES`.

    Attributes:
        results: int8 [rules], BROKEN, PASSED or OFF.
        values, limits: float64 [rules]; NaN where there is none.
    """

    results: CodeArray
    values: FloatArray
    limits: FloatArray


class RiskVerdict(NamedTuple):
    """ACCEPT, CLIP or DENY, and the signed quantity that may be traded, in units."""

    outcome: int
    quantity: float


@inline
def round_quantity(quantity: float) -> float:
    """The double nearest to the same number with ten decimals, as far as a double has them."""
    scaled = abs(quantity) * 1e10
    if not scaled < 2.0**53:
        return quantity
    return math.copysign(math.floor(scaled + 0.5) / 1e10, quantity)


@inline
def round_to_lot(quantity: float, lot: float) -> float:
    """Toward zero to a multiple of `lot`, as far as a double tells one from the next."""
    lots = abs(quantity) / lot + 1e-9
    if not lots < 2.0**53:
        return quantity
    return round_quantity(math.copysign(math.floor(lots) * lot, quantity))


@inline
def record(rule_results: RuleResults, place: int, checked: CheckResult) -> float:
    """Write a rule's result down; returns the largest abs(quantity) that it allows (inf: any)."""
    rule_results.results[place] = checked.result
    rule_results.values[place] = checked.value
    rule_results.limits[place] = checked.limit
    return checked.max_quantity if checked.result == BROKEN else math.inf


def checking(place: int, checks: Sequence[Any]) -> Callable[..., float]:
    """A compiled function that makes all checks in order and records them from `place` on.

    It halves the list until one is left: nested calls, which LLVM makes one, stay five deep.
    """
    if len(checks) == 1:
        (check,) = checks

        @inline
        def one(
            order: Order, position: Position, account: Account, windows: RollingWindows, limits: LimitRow,
            rule_results: RuleResults,
        ) -> float:  # fmt: skip
            return record(rule_results, place, check(order, position, account, windows, limits))

        return one
    middle = len(checks) // 2
    first, rest = checking(place, checks[:middle]), checking(place + middle, checks[middle:])

    @inline
    def both(
        order: Order, position: Position, account: Account, windows: RollingWindows, limits: LimitRow,
        rule_results: RuleResults,
    ) -> float:  # fmt: skip
        allowed = first(order, position, account, windows, limits, rule_results)
        return min(allowed, rest(order, position, account, windows, limits, rule_results))

    return both


#: Every rule, recorded; returns the largest abs(quantity) that all of them allow (inf: any).
evaluate = checking(0, [rule.check for rule in RULES.values()])


@inline
def any_broken(results: CodeArray) -> bool:
    """Without an array in between."""
    for result in results:  # noqa: SIM110 - compiled
        if result == BROKEN:
            return True
    return False


@inline
def pre_trade_check(
    order: Order,
    position: Position,
    account: Account,
    windows: RollingWindows,
    limits: LimitRow,
    rule_results: RuleResults,
    clipped_results: RuleResults,
) -> RiskVerdict:
    """Judge an order against every rule.

    Args:
        order, position, account, windows, limits: what the rules see.
        rule_results: written: every rule's result for the quantity that was asked for.
        clipped_results: written: the same for the clipped quantity, which is denied if it breaks a rule itself.

    Returns:
        The verdict. A clipped quantity is rounded down to the symbol's lot.
    """
    asked, into = order, rule_results
    # Floating point: what a rule divided may lie a last place beyond its limit; a lot less does not.
    for attempt in range(3):
        allowed = evaluate(asked, position, account, windows, limits, into)
        if not any_broken(into.results):
            return RiskVerdict(CLIP if attempt else ACCEPT, asked.quantity)
        if attempt == 0:
            clipped = round_to_lot(allowed, limits.lot) if math.isfinite(allowed) else 0.0
        else:
            clipped = round_quantity(abs(asked.quantity) - limits.lot)
        if not 0.0 < clipped < abs(asked.quantity):
            break
        asked, into = resized(order, math.copysign(clipped, order.quantity)), clipped_results
    return RiskVerdict(DENY, 0.0)


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
