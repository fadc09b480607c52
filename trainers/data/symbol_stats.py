"""What is known of each symbol as its ticks are read: its number, its time, its gaps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from msgspec import Struct

from trading.arrays import FloatArray, Int64Array
from trading.market import TickBatch
from trainers.data.manifest import SymbolSpan

#: A span without ticks is a gap when it is this many times the symbol's mean.
GAP_FACTOR = 50.0
#: Spans between ticks are counted by their logarithm: a gap's bound is met within a sixteenth.
STEP_PARTS = 8
STEP_BINS = 64 * STEP_PARTS


class Seen(Struct):
    """Of one symbol."""

    ticks: int = 0
    rows: int = 0
    first_ns: int = 0
    last_ns: int = 0
    late: int = 0
    longest_ns: int = 0
    moved: bool = False
    first_mid: float = 0.0


class Symbols:
    """All symbols of a build.

    Attributes:
        numbers: by symbol, in the order of their first ticks.
        first_ns: int64 [symbols], times of their first ticks; of those that were known longer, that time.
    """

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}
        self.first_ns = np.zeros(0, np.int64)
        self._last_ns = np.zeros(0, np.int64)
        self._since: dict[str, int] = {}
        self._seen: list[Seen] = []
        #: How often a symbol's next tick came so much later: its mean, and so what a gap is, is known at the end.
        self._steps: list[Int64Array] = []

    def since(self, first_ns: Mapping[str, int]) -> None:
        """Symbols were seen long before what is read of them: since then their averages have grown."""
        self._since = dict(first_ns)

    def number(self, batch: TickBatch) -> Int64Array:
        """The number of each tick's symbol, int64 [n]."""
        known = self.numbers
        # In the order of their first ticks: a set's order is another in each process.
        for symbol in dict.fromkeys(batch.symbols):
            if symbol in known:
                continue
            first = batch.symbols.index(symbol)
            known[symbol] = len(known)
            at = int(batch.event_time_ns[first])
            self._seen.append(Seen(first_ns=at))
            self._steps.append(np.zeros(STEP_BINS, np.int64))
            self._last_ns = np.append(self._last_ns, at)
            self.first_ns = np.append(self.first_ns, min(at, self._since.get(symbol, at)))
        return np.array([known[symbol] for symbol in batch.symbols], np.int64)

    def times(self, numbers: Int64Array, event_time_ns: Int64Array) -> Int64Array:
        """Event times as the kernel takes them: a late tick happens at the newest time of its symbol."""
        time_ns = np.empty_like(event_time_ns)
        for k in np.unique(numbers).tolist():
            mine, seen = np.flatnonzero(numbers == k), self._seen[k]
            stated = event_time_ns[mine]
            running = np.maximum.accumulate(np.concatenate([self._last_ns[k : k + 1], stated]))
            time_ns[mine] = running[1:]
            seen.late += int((stated < running[1:]).sum())
            steps = np.diff(running)
            seen.longest_ns = max(seen.longest_ns, int(steps.max()))
            self._steps[k] += np.bincount(octaves(steps), minlength=STEP_BINS)
            self._last_ns[k] = running[-1]
        return time_ns

    def count(self, numbers: Int64Array, keep: Int64Array, mids: FloatArray) -> None:
        """Count n ticks: their symbols' numbers, the places of those that are rows, and mids (NaN: none known)."""
        priced = ~np.isnan(mids)
        for k in np.unique(numbers).tolist():
            seen, mine = self._seen[k], numbers == k
            seen.ticks += int(mine.sum())
            seen.rows += int((numbers[keep] == k).sum())
            prices = mids[mine & priced]
            if len(prices):
                seen.first_mid = seen.first_mid or float(prices[0])
                seen.moved |= bool((prices != seen.first_mid).any())

    def standing(self) -> list[str]:
        """Symbols whose price never changed."""
        return [name for name, k in self.numbers.items() if self._seen[k].ticks > 1 and not self._seen[k].moved]

    def mean_distance(self) -> float:
        """Median over the symbols of the mean time between their rows, in ns; 0 where there are none."""
        distances = [
            (int(self._last_ns[k]) - seen.first_ns) / seen.rows for k, seen in enumerate(self._seen) if seen.rows
        ]
        return float(np.median(distances)) if distances else 0.0

    def spans(self) -> tuple[SymbolSpan, ...]:
        """Of every symbol, in order of their numbers."""
        spans = []
        for name, k in self.numbers.items():
            seen, last_ns = self._seen[k], int(self._last_ns[k])
            least = GAP_FACTOR * (last_ns - seen.first_ns) / max(1, seen.ticks)
            gaps = int(self._steps[k][octaves(np.array([least])).item() + 1 :].sum())
            spans.append(
                SymbolSpan(name, seen.ticks, seen.rows, seen.first_ns, last_ns, gaps, seen.longest_ns, seen.late)
            )
        return tuple(spans)


def octaves(steps_ns: np.typing.NDArray[Any]) -> Int64Array:
    """The bin of each span: STEP_PARTS a doubling."""
    found: Int64Array = (np.log2(np.maximum(steps_ns, 1)) * STEP_PARTS).astype(np.int64)
    return found
