"""Every rule is evaluated and recorded; the verdict is accept, clip or deny."""

from __future__ import annotations

import math
from collections.abc import Callable

import msgspec

from gateway.domain.risk import (
    gross_exposure,
    order_notional,
    order_size,
    position_limit,
    stale_data,
    trading_state,
    valid_values,
)
from gateway.domain.risk.model import Finding, Intent, Limits
from gateway.domain.schemas import Outcome, Verdict

Rule = Callable[[Intent, Limits], Finding]

#: In the order in which they are recorded.
RULES: dict[str, Rule] = {
    m.NAME: m.check
    for m in (
        valid_values,
        stale_data,
        order_size,
        order_notional,
        position_limit,
        gross_exposure,
        trading_state,
    )
}


def assess(intent: Intent, limits: Limits, lot: float) -> Verdict:
    """Judge an intent against every rule.

    Args:
        intent: the wanted order.
        limits: of the book.
        lot: smallest quantity step, in units; a clipped order is rounded down to it.

    Returns:
        The verdict, with the results of all rules for the quantity that was asked for. A clipped
        quantity is assessed again, and denied if it breaks a rule itself.
    """
    findings = [rule(intent, limits) for rule in RULES.values()]
    results = tuple(f.result for f in findings)
    if all(r.passed for r in results):
        return Verdict(Outcome.ACCEPT, intent.quantity, results)
    allowed = min(f.max_quantity for f in findings)
    clipped = round_to_lot(allowed, lot) if math.isfinite(allowed) else 0.0
    if not 0.0 < clipped < abs(intent.quantity):
        return Verdict(Outcome.DENY, 0.0, results)
    smaller = msgspec.structs.replace(intent, quantity=math.copysign(clipped, intent.quantity))
    if not all(rule(smaller, limits).result.passed for rule in RULES.values()):
        return Verdict(Outcome.DENY, 0.0, results)
    return Verdict(Outcome.CLIP, smaller.quantity, results)


def round_to_lot(quantity: float, lot: float) -> float:
    """Toward zero to a multiple of `lot`, as the nearest decimal number of that multiple."""
    steps = math.floor(abs(quantity) / lot + 1e-9)
    return math.copysign(round(steps * lot, 10), quantity)
