"""When each tick or request is meant to be sent: an open model, fixed before the run.

Latency counts from the intended time, so that a slow system cannot hide its queue by slowing the
sender down (coordinated omission).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import chain, count
from typing import Literal

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from trading.errors import ConfigurationError
from trading.history import Record

NS = 1_000_000_000
#: Arrivals that are computed at once.
CHUNK = 4096
Nanoseconds = npt.NDArray[np.int64]
EXPECTED = "expected real, Nx (8x), N/s (2000/s), poisson:N/s, bursts:BASE/s,PEAK/s,EVERYs,LASTSs or max"
_NUMBER = r"(\d+(?:\.\d+)?)"


class Speed(Struct, frozen=True):
    """How ticks arrive.

    Attributes:
        kind: recorded (gaps divided by `factor`), constant, poisson, bursts, or max (as fast as possible).
        factor: of recorded gaps: 8 is eight times as fast.
        rate_hz: arrivals a second; in bursts, between them.
        peak_hz, every_s, lasts_s: a burst of `peak_hz` begins each `every_s` and lasts `lasts_s`.
    """

    kind: Literal["recorded", "constant", "poisson", "bursts", "max"] = "max"
    factor: float = 1.0
    rate_hz: float = 0.0
    peak_hz: float = 0.0
    every_s: float = 0.0
    lasts_s: float = 0.0

    @classmethod
    def parse(cls, text: str) -> Speed:
        """Read "real", "8x", "2000/s", "poisson:2000/s", "bursts:200/s,4000/s,10s,1s" or "max".

        Raises ConfigurationError for anything else.
        """
        if text == "max":
            return cls()
        if text == "real":
            return cls("recorded")
        if match := re.fullmatch(rf"{_NUMBER}x", text):
            return cls("recorded", factor=_positive(match[1], text))
        if match := re.fullmatch(rf"(poisson:)?{_NUMBER}/s", text):
            return cls("poisson" if match[1] else "constant", rate_hz=_positive(match[2], text))
        if match := re.fullmatch(rf"bursts:{_NUMBER}/s,{_NUMBER}/s,{_NUMBER}s,{_NUMBER}s", text):
            base, peak, every, lasts = (_positive(n, text) for n in match.groups())
            if lasts >= every:
                raise ConfigurationError(f"speed {text!r}: a burst of {lasts:g} s does not end within {every:g} s")
            return cls("bursts", rate_hz=base, peak_hz=peak, every_s=every, lasts_s=lasts)
        raise ConfigurationError(f"speed {text!r}: {EXPECTED}")

    def arrivals(self, seed: int, recorded_ns: Nanoseconds | None = None) -> Iterator[Nanoseconds]:
        """Arrivals without end, in chunks: ns after the start, never decreasing.

        Args:
            seed: of Poisson's gaps; the same seed gives the same arrivals.
            recorded_ns: when the source's ticks arrived, for recorded gaps. After the last they begin
                anew, a mean gap later.

        Raises:
            ValueError: recorded gaps without `recorded_ns`.
        """
        match self.kind:
            case "recorded":
                return self._recorded(recorded_ns)
            case "constant":
                return ((_numbers(k) / self.rate_hz * NS).astype(np.int64) for k in count())
            case "poisson":
                return self._poisson(seed)
            case "bursts":
                return (self._bursts(_numbers(k)) for k in count())
            case "max":
                return (np.zeros(CHUNK, np.int64) for _ in count())

    def _recorded(self, recorded_ns: Nanoseconds | None) -> Iterator[Nanoseconds]:
        if recorded_ns is None:
            raise ValueError("recorded gaps need the recorded times")
        # A recorder's clock that steps back gives no negative gap.
        once = np.maximum.accumulate(recorded_ns - recorded_ns[0])
        turn_ns = _span_ns(recorded_ns)
        for turn in count():
            for begin in range(0, len(once), CHUNK):
                yield ((once[begin : begin + CHUNK] + turn * turn_ns) / self.factor).astype(np.int64)

    def _poisson(self, seed: int) -> Iterator[Nanoseconds]:
        generator, at = np.random.default_rng(seed), 0.0
        while True:
            times = at + np.cumsum(generator.exponential(NS / self.rate_hz, CHUNK))
            at = float(times[-1])
            yield times.astype(np.int64)

    def _bursts(self, numbers: npt.NDArray[np.float64]) -> Nanoseconds:
        """The inverse of the expected count: linear in the burst, then linear until the next."""
        in_burst = self.peak_hz * self.lasts_s
        in_period = in_burst + self.rate_hz * (self.every_s - self.lasts_s)
        periods, left = np.divmod(numbers, in_period)
        after = np.where(left < in_burst, left / self.peak_hz, self.lasts_s + (left - in_burst) / self.rate_hz)
        return ((periods * self.every_s + after) * NS).astype(np.int64)


def until(arrivals: Iterable[Nanoseconds], *, limit: int | None, duration_s: float | None) -> Iterator[Nanoseconds]:
    """The arrivals up to a number or a time, whichever comes first."""
    left = limit
    for chunk in arrivals:
        part = chunk if left is None else chunk[:left]
        if duration_s is not None:
            part = part[: np.searchsorted(part, duration_s * NS)]
        if len(part):
            yield part
        if left is not None:
            left -= len(part)
        if len(part) < len(chunk) or left == 0:
            return


class Planned(Struct, frozen=True):
    """A tick and when to send it, in ns after the start."""

    after_ns: int
    record: Record


def plan(records: Iterator[Record], speed: Speed, seed: int = 0) -> Iterator[Planned]:
    """Give each record its time, one by one. Arrival times that step back are sent at once."""
    if speed.kind == "recorded":
        first: int | None = None
        latest = 0
        for record in records:
            first = record.arrival_ns if first is None else first
            latest = max(latest, int((record.arrival_ns - first) / speed.factor))
            yield Planned(latest, record)
        return
    times = chain.from_iterable(chunk.tolist() for chunk in speed.arrivals(seed))
    yield from map(Planned, times, records)


def _span_ns(recorded_ns: Nanoseconds) -> int:
    """From the first to the last arrival, and a mean gap more."""
    span = int(recorded_ns.max() - recorded_ns[0])
    return max(1, span + span // max(1, len(recorded_ns) - 1))


def _numbers(chunk: int) -> npt.NDArray[np.float64]:
    return np.arange(chunk * CHUNK, (chunk + 1) * CHUNK, dtype=np.float64)


def _positive(number: str, text: str) -> float:
    value = float(number)
    if value == 0.0:
        raise ConfigurationError(f"speed {text!r}: {EXPECTED}, each above 0")
    return value
