"""The highest rate that keeps its gates: by bisection, with runs that confirm it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from msgspec import Struct

from loadtest.errors import InvalidRun
from loadtest.judging.gates import LAG
from loadtest.measuring.result import RunResult
from trading.errors import ConfigurationError

#: The knee is looked for where latency rises at least so many times over the curve.
LEAST_RISE = 1.5


class Trial(Struct, frozen=True):
    """One run at one rate."""

    rate: float
    achieved_per_s: float
    p50_ms: float
    p99_ms: float
    verdict: str
    broken: list[str]


class Capacity(Struct, frozen=True):
    """What was found.

    Attributes:
        limit: the highest rate that held, and held again in each confirming run; 0: none did.
        bound: what ended the search: a gate missed, a generator that fell behind, too few samples to say, or the
            highest rate asked for.
        knee: the rate at which latency begins to rise steeply; None where it does not.
        trials: every run, in order.
    """

    limit: float
    bound: Literal["gate", "generator", "samples", "asked"]
    knee: float | None
    trials: list[Trial]


def search(
    run: Callable[[float], RunResult],
    *,
    low: float,
    high: float,
    precision: float = 0.1,
    confirmations: int = 2,
    show: Callable[[Trial], None] = lambda _: None,
) -> Capacity:
    """Double from `low` until a gate breaks, halve the interval, confirm.

    Args:
        run: a judged run at a rate.
        low: where to begin.
        high: beyond this nobody asks.
        precision: the limit and the lowest rate that failed are at most this share apart.
        confirmations: further runs at the limit that must all hold; one that does not lowers the limit.
        show: called after each run.

    Raises:
        ConfigurationError: the range is empty.
    """
    if not 0.0 < low < high:
        raise ConfigurationError(
            f"rates from {low:g}/s to {high:g}/s: the first must be above 0 and below the second"
        )
    trials: list[Trial] = []

    def holds(rate: float) -> bool:
        trial = tried(run, rate, first=not trials)
        trials.append(trial)
        show(trial)
        return trial.verdict == "held"

    held, failed = climb(holds, low, high, precision)
    while held and not all(holds(held[-1]) for _ in range(confirmations)):
        failed = held.pop()
    return Capacity(held[-1] if held else 0.0, bound(trials, failed), knee_of(trials), trials)


def climb(holds: Callable[[float], bool], low: float, high: float, precision: float) -> tuple[list[float], float]:
    """Rates that held, rising, and the lowest that did not (inf: none did)."""
    held: list[float] = []
    failed, rate = math.inf, low
    while rate < failed:
        if holds(rate):
            held.append(rate)
            if rate >= high:
                break
            rate = min(high, rate * 2.0) if failed == math.inf else math.sqrt(rate * failed)
        else:
            failed = rate
            if not held:
                break
            rate = math.sqrt(held[-1] * failed)
        if failed <= held[-1] * (1.0 + precision):
            break
    return held, failed


def tried(run: Callable[[float], RunResult], rate: float, *, first: bool) -> Trial:
    """A trial, also where nothing came of it: what was found so far is kept. Raises InvalidRun for the first."""
    try:
        return trial_of(rate, run(rate))
    except InvalidRun as error:
        if first:
            raise
        return Trial(rate, 0.0, math.nan, math.nan, "invalid", [str(error)])


def trial_of(rate: float, result: RunResult) -> Trial:
    """What a curve needs of a run."""
    broken = [c.name for c in result.checks if c.verdict != "held"]
    return Trial(rate, result.achieved_per_s, result.latency.p50, result.latency.p99, result.verdict, broken)


def bound(trials: Sequence[Trial], failed: float) -> Literal["gate", "generator", "samples", "asked"]:
    """Why there is no higher limit."""
    worst = [t for t in trials if t.rate == failed and t.verdict != "held"]
    if not worst:
        return "asked"
    if any(t.verdict == "missed" for t in worst):
        return "gate"
    if any(LAG in t.broken for t in worst):
        return "generator"
    return "samples" if any("samples" in t.broken for t in worst) else "gate"


def knee_of(trials: Sequence[Trial]) -> float | None:
    """Where a convex rising curve is furthest below its chord: Kneedle's criterion.

    Rate against the logarithm of p99, each scaled to 0 to 1, a rate's runs averaged (V. Satopää et al., "Finding a
    'Kneedle' in a Haystack", 2011). None with fewer than four rates, or where p99 hardly rises.
    """
    by_rate: dict[float, list[float]] = {}
    for trial in trials:
        if trial.p99_ms > 0.0:
            by_rate.setdefault(trial.rate, []).append(math.log(trial.p99_ms))
    rates = np.array(sorted(by_rate))
    if len(rates) < 4:
        return None
    # Latency cannot fall with load; where it seems to, that is noise.
    curve = np.maximum.accumulate([float(np.mean(by_rate[r])) for r in rates])
    if curve[-1] - curve[0] < math.log(LEAST_RISE):
        return None
    x = (rates - rates[0]) / (rates[-1] - rates[0])
    y = (curve - curve[0]) / (curve[-1] - curve[0])
    return float(rates[int(np.argmax(x - y))])
