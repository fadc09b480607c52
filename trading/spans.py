"""Spans of event time as people write them."""

from __future__ import annotations

import re

from trading.errors import ConfigurationError

UNITS_NS = {
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
    "d": 86_400_000_000_000,
}


def parse_span(text: str) -> int:
    """Nanoseconds of "250ms", "10s", "5m", "2h" or "10d". Raises ConfigurationError for anything else."""
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|s|m|h|d)", text)
    if match is None or float(match[1]) == 0.0:
        raise ConfigurationError(
            f"{text!r} is no span of time: expected a number with ms, s, m, h or d, as 10s or 5m"
        )
    return round(float(match[1]) * UNITS_NS[match[2]])


def span_text(span_ns: float) -> str:
    """A span in the largest unit that it fills."""
    for unit, size in reversed(UNITS_NS.items()):
        if span_ns >= size:
            return f"{span_ns / size:.4g}{unit}"
    return f"{span_ns / UNITS_NS['ms']:.4g}ms"
