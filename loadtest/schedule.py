"""When each tick is meant to be sent: an open model, fixed before the run.

Latency counts from the intended time, so that a slow system cannot hide its queue by slowing the
sender down (coordinated omission).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from msgspec import Struct

from gateway.domain.errors import ConfigurationError
from gateway.history import Record

NS = 1_000_000_000


class Speed(Struct, frozen=True):
    """`factor` of the recorded gaps, or a constant `rate_hz`; neither: as fast as possible."""

    factor: float | None = None
    rate_hz: float | None = None

    @classmethod
    def parse(cls, text: str) -> Speed:
        """Read "real", "8x", "2000/s" or "max". Raises ConfigurationError for anything else."""
        if text == "max":
            return cls()
        if text == "real":
            return cls(factor=1.0)
        match = re.fullmatch(r"(\d+(?:\.\d+)?)(x|/s)", text)
        if match is None or float(match[1]) == 0.0:
            raise ConfigurationError(f"speed {text!r}: expected real, Nx (8x), N/s (2000/s) or max")
        number = float(match[1])
        return cls(factor=number) if match[2] == "x" else cls(rate_hz=number)


class Planned(Struct, frozen=True):
    """A tick and when to send it, in ns after the start."""

    after_ns: int
    record: Record


def plan(records: Iterator[Record], speed: Speed) -> Iterator[Planned]:
    """Give each record its time. Arrival times that step back are sent at once."""
    first: int | None = None
    latest = 0
    for number, record in enumerate(records):
        if speed.rate_hz is not None:
            after = int(number * NS / speed.rate_hz)
        elif speed.factor is not None:
            first = record.arrival_ns if first is None else first
            after = int((record.arrival_ns - first) / speed.factor)
        else:
            after = 0
        latest = max(latest, after)
        yield Planned(latest, record)
