"""Whether latency or memory grows over a long run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from msgspec import structs
from scipy.stats import theilslopes

from loadtest.judging.gates import verdict_of
from loadtest.measuring.latencies import Counts, Values, quantile_ms
from loadtest.measuring.result import Check, RunResult

#: Growth over the run that is too much, in % of the median.
LATENCY_GROWTH, MEMORY_GROWTH = 20.0, 5.0
#: Of these memory is judged; Kafka's and PostgreSQL's fills what it was given, by design.
JUDGED = ("gateway", "triton", "generator", "reader")
#: A run is cut into so many parts at most, longer than what makes neighbouring seconds alike.
PARTS = 40
#: What is filled once and then used again is filled in the first part of a run.
SETTLING = 0.25
LEAST_PARTS = 6
GROWTH = "growth over the run"
#: A process that is not seen for so much of a run has ended meanwhile.
WATCHED = 0.9


def judge_drift(result: RunResult, expected: Sequence[str] = ()) -> RunResult:
    """The result with a check each of p50, p99 and of the memory of each judged process.

    Measured is the growth over the run, in % of the median: the Theil-Sen slope (P. K. Sen, 1968), which no single
    stall can bend, times the length. Its 95 % interval decides: wholly above the limit, growth is shown; wholly
    below, steadiness is; otherwise the run was too short or too restless to say, which is invalid.

    Args:
        result: a judged run.
        expected: processes whose memory must have been seen to the end.
    """
    parts = in_parts(result.series.matrix())
    found = quantile_ms(parts, (0.5, 0.99))
    checks = [check for check in result.checks if GROWTH not in check.name]
    for k, name in enumerate(("p50", "p99")):
        checks.append(check_of(f"{name}: {GROWTH}", found[:, k], LATENCY_GROWTH))
    sampled = {server.name: server for server in result.servers if server.name in JUDGED}
    for name in dict.fromkeys([*(n for n in expected if n in JUDGED), *sampled]):
        memory = np.zeros(0)
        if name in sampled and sampled[name].at_s[-1] >= WATCHED * (result.warm_up_s + result.seconds):
            memory = np.array(sampled[name].memory_mb)[int(SETTLING * len(sampled[name].memory_mb)) :]
        checks.append(check_of(f"memory of {name}: {GROWTH}", means(memory), MEMORY_GROWTH))
    return structs.replace(result, checks=checks, verdict=verdict_of(checks))


def judged_for_drift(result: RunResult) -> bool:
    """Whether a result is a soak's."""
    return any(GROWTH in check.name for check in result.checks)


def in_parts(counts: Counts) -> Counts:
    """Counts [cells, BUCKETS] summed into parts of equal length."""
    return np.stack([part.sum(axis=0) for part in np.array_split(counts, min(PARTS, max(1, len(counts))))])


def means(values: Values) -> Values:
    """Means of parts of equal length."""
    return np.array([part.mean() for part in np.array_split(values, min(PARTS, max(1, len(values)))) if len(part)])


def growth_of(values: Values) -> tuple[float, float, float]:
    """Growth over the whole length in % of the median, and its 95 % interval; NaN with too few parts."""
    values = values[~np.isnan(values)]
    if len(values) < LEAST_PARTS or not np.median(values):
        return float("nan"), float("nan"), float("nan")
    slope, _, low, high = theilslopes(values, np.arange(len(values)), 0.95)
    scale = 100.0 * (len(values) - 1) / np.median(values)
    return float(slope * scale), float(low * scale), float(high * scale)


def check_of(name: str, values: Values, limit: float) -> Check:
    """Held or missed where the interval lies on one side of the limit."""
    growth, low, high = growth_of(values)
    goal = f"at most {limit:g} %"
    if low > limit:
        return Check(name, goal, growth, "%", "missed")
    # Also where nothing was measured: a comparison with NaN is false.
    return Check(name, goal, growth, "%", "held" if high <= limit else "invalid")
