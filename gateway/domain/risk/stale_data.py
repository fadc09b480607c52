"""The tick must not be older than the stream's own clock by more than the limit."""

from __future__ import annotations

from gateway.domain.risk.model import Finding, Intent, Limits, within

NAME = "stale_data"


def check(intent: Intent, limits: Limits) -> Finding:
    """Age in nanoseconds of event time."""
    return within(NAME, float(intent.age_ns), float(limits.max_staleness_ns), 0.0)
