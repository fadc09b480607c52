"""A run against its target: each goal beside what was measured, and one verdict."""

from __future__ import annotations

import math
from collections.abc import Iterable

from msgspec import structs

from loadtest.judging.targets import Target
from loadtest.measuring.latencies import LatencySummary
from loadtest.measuring.result import Check, RunResult, RunVerdict

#: What a command exits with.
EXIT_CODES: dict[RunVerdict, int] = {"held": 0, "unjudged": 0, "missed": 1, "invalid": 2}
#: The check that tells a slow generator from a slow desk.
LAG = "generator lag p99"
PERCENTILES = (("p50", "p50_ms"), ("p95", "p95_ms"), ("p99", "p99_ms"), ("p99.9", "p99_9_ms"))


def judge(result: RunResult, target: Target) -> RunResult:
    """The result with its checks and its verdict."""
    checks = [_at_least("samples", float(result.planned), float(target.min_samples), "", miss="invalid")]
    if not result.answered and not result.errors:
        # Nobody was there: that says nothing about how quick they are.
        checks.append(Check("answers", "at least 1", 0.0, "", "invalid"))
    if target.max_lag_ms is not None:
        checks.append(_at_most(LAG, result.lag.p99, target.max_lag_ms, "ms", miss="invalid"))
    checks += percentiles(result.latency, target)
    if target.max_error_ratio is not None:
        checks.append(_at_most("error ratio", result.error_ratio, target.max_error_ratio, ""))
    if target.min_achieved_ratio is not None:
        checks.append(_at_least("achieved over offered", result.achieved_ratio, target.min_achieved_ratio, ""))
    return structs.replace(result, checks=checks, verdict=verdict_of(checks))


def percentiles(latency: LatencySummary, target: Target) -> list[Check]:
    """Those that the target limits."""
    found = []
    for name, field in PERCENTILES:
        limit = getattr(target, field)
        if limit is not None:
            found.append(_at_most(name, getattr(latency, field.removesuffix("_ms")), limit, "ms"))
    return found


def verdict_of(checks: Iterable[Check]) -> RunVerdict:
    """Invalid before missed before held: what proves nothing is not missed either."""
    found = {check.verdict for check in checks}
    if "invalid" in found:
        return "invalid"
    return "missed" if "missed" in found else "held"


def _at_most(name: str, measured: float, limit: float, unit: str, miss: RunVerdict = "missed") -> Check:
    # What was not measured (NaN) is not within its limit.
    good = not math.isnan(measured) and measured <= limit
    return Check(name, f"at most {limit:g} {unit}".strip(), measured, unit, "held" if good else miss)


def _at_least(name: str, measured: float, limit: float, unit: str, miss: RunVerdict = "missed") -> Check:
    good = not math.isnan(measured) and measured >= limit
    return Check(name, f"at least {limit:g} {unit}".strip(), measured, unit, "held" if good else miss)
