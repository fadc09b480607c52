"""From what compiled rules wrote to a verdict as a value."""

from __future__ import annotations

import math

import numpy as np

from trading.risk.engine import COUNT, RuleResults
from trading.risk.model import OFF, PASSED
from trading.risk.rules import NAMES
from trading.risk.verdict import Outcome, RuleResult, Verdict

OUTCOMES = (Outcome.ACCEPT, Outcome.CLIP, Outcome.DENY)


def allocate_results(rows: int | None = None) -> RuleResults:
    """Room for the findings of one order, or of n."""
    shape = (COUNT,) if rows is None else (rows, COUNT)
    return RuleResults(np.zeros(shape, np.int8), np.zeros(shape), np.zeros(shape))


def verdict_of(outcome: int, quantity: float, rule_results: RuleResults) -> Verdict:
    """The verdict as a value; rules that are off are left out."""
    found = []
    for name, result, value, limit in zip(
        NAMES,
        rule_results.results.tolist(),
        rule_results.values.tolist(),
        rule_results.limits.tolist(),
        strict=True,
    ):
        if result != OFF:
            known, bound = finite(value), finite(limit)
            headroom = None if known is None or bound is None else bound - known
            found.append(RuleResult(name, result == PASSED, known, bound, headroom))
    return Verdict(OUTCOMES[outcome], quantity, tuple(found))


def finite(value: float) -> float | None:
    """The value, or None where JSON has no word for it."""
    return value if math.isfinite(value) else None
