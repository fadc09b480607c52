"""Whether latency or memory grows over a long run."""

from __future__ import annotations

import numpy as np
from msgspec import structs
from scipy.stats import theilslopes

from loadtest.gates import verdict_of
from loadtest.latencies import Counts, Values, quantile_ms
from loadtest.result import Check, Result

#: Growth over the run that is too much, in % of the median.
LATENCY_GROWTH, MEMORY_GROWTH = 20.0, 5.0
#: Of these memory is judged; Kafka's and PostgreSQL's fills what it was given, by design.
JUDGED = ("gateway", "triton", "generator")
#: A run is cut into so many parts at most, longer than what makes neighbouring seconds alike.
PARTS = 40
#: What is filled once and then used again is filled in the first part of a run.
SETTLING = 0.25
LEAST_PARTS = 6


def judge_drift(result: Result) -> Result:
    """The result with a check each of p50, p99 and of the memory of each judged process.

    What is measured is the growth over the run that is certain: the lower end of the 95 % interval of the
    Theil-Sen slope (P. K. Sen, 1968), which no single stall can bend, times the length, in % of the median.
    """
    parts = in_parts(result.series.matrix())
    found = quantile_ms(parts, (0.5, 0.99))
    checks = list(result.checks)
    for k, name in enumerate(("p50", "p99")):
        checks.append(check_of(f"{name}: certain growth", found[:, k], LATENCY_GROWTH))
    for server in result.servers:
        if server.name in JUDGED:
            memory = np.array(server.memory_mb)[int(SETTLING * len(server.memory_mb)) :]
            checks.append(check_of(f"memory of {server.name}: certain growth", means(memory), MEMORY_GROWTH))
    return structs.replace(result, checks=checks, verdict=verdict_of(checks))


def in_parts(counts: Counts) -> Counts:
    """Counts [cells, BUCKETS] summed into parts of equal length."""
    return np.stack([part.sum(axis=0) for part in np.array_split(counts, min(PARTS, max(1, len(counts))))])


def means(values: Values) -> Values:
    """Means of parts of equal length."""
    return np.array([part.mean() for part in np.array_split(values, min(PARTS, max(1, len(values)))) if len(part)])


def certain_growth(values: Values) -> float:
    """% of the median over the whole length, at least so much with 95 % confidence; NaN with too few parts."""
    values = values[~np.isnan(values)]
    if len(values) < LEAST_PARTS or not np.median(values):
        return float("nan")
    _, _, low, _ = theilslopes(values, np.arange(len(values)), 0.95)
    return float(100.0 * low * (len(values) - 1) / np.median(values))


def check_of(name: str, values: Values, limit: float) -> Check:
    """Too short a run proves nothing about growth."""
    growth = certain_growth(values)
    goal = f"at most {limit:g} %"
    if np.isnan(growth):
        return Check(name, goal, growth, "%", "invalid")
    return Check(name, goal, growth, "%", "held" if growth <= limit else "missed")
