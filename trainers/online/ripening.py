"""Labels that are ripe: ticks of a desk's archive become rows when what their labels look at lies in the log.

A label is a function of the ticks between its row and its end, so it is ripe when they all have come, and no tick
that comes later changes it. What could ripen one early is a clock: a tick dated ahead ends every label of its
symbol whose horizon lies before that date. So a tick counts only where those of its symbol that came after it are
dated no earlier; the newest of a symbol, which have nothing after them, wait.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from msgspec import Struct

from trading.arrays import BoolArray, Int64Array
from trading.errors import SourceError
from trading.history.archive import Between, show_offsets
from trading.history.source import LivedBatch, LivedSource
from trainers.data.archived_columns import ArchivedColumns, first_times, read_columns
from trainers.data.build import BuildSettings, build
from trainers.data.manifest import Manifest

#: Ticks of a symbol after one that say whether it was dated ahead: so many of each symbol wait.
FOLLOWING = 32
#: Clocks of one feed's producers differ by less than this share of a horizon; 1 ms to 1 s.
TOLERANCE = 0.1
LEAST_TOLERANCE_NS, MOST_TOLERANCE_NS = 1_000_000, 1_000_000_000
UNQUOTED = "its quote stood before the first tick here"
AHEAD, WAITS = "dated ahead of those that came after it", "nothing has come after it yet"


class LivedSpan(Struct, frozen=True):
    """Ticks of an archive: FOLDER, and offsets by partition; the last offset of each is not of it any more."""

    folder: Path
    start: dict[int, int]
    stop: dict[int, int]

    @property
    def spec(self) -> str:
        """As a SOURCE."""
        start = f"from={show_offsets(self.start)}&" if self.start else ""
        return f"archive:{self.folder}?{start}until={show_offsets(self.stop)}"


def tolerance_ns(horizon_ns: int) -> int:
    """How far a tick may be dated ahead of one that came later."""
    return int(min(MOST_TOLERANCE_NS, max(LEAST_TOLERANCE_NS, TOLERANCE * horizon_ns)))


def settled(columns: ArchivedColumns, ahead_ns: int) -> tuple[Int64Array, dict[str, int]]:
    """The ticks whose dates can be believed, and how many are left out, by reason.

    Args:
        columns: of a span of the log.
        ahead_ns: see `tolerance_ns`.

    Returns:
        Their places, int64 [m], in order. Whether a tick is one depends on itself and the FOLLOWING ticks of its
        symbol alone: more of the log takes none away.
    """
    keep = np.zeros(len(columns), np.bool_)
    left_out: Counter[str] = Counter()
    names = np.array(columns.symbols, dtype=np.str_)
    order = np.argsort(names, kind="stable")
    bounds = np.flatnonzero(names[order][1:] != names[order][:-1]) + 1
    for mine in np.split(order, bounds) if len(order) else ():
        dated = columns.event_time_ns[mine]
        left_out[WAITS] += min(len(mine), FOLLOWING)
        if len(mine) <= FOLLOWING:
            continue
        windows = np.lib.stride_tricks.sliding_window_view(dated[1:], FOLLOWING)
        believed = dated[: len(windows)] <= windows.min(axis=1) + ahead_ns
        keep[mine[: len(windows)][believed]] = True
        left_out[AHEAD] += int((~believed).sum())
    return np.flatnonzero(keep), {why: n for why, n in left_out.items() if n}


def quoted(columns: ArchivedColumns, start: dict[int, int]) -> BoolArray:
    """Whether the quote that stood at each tick is known, bool [n].

    A span that begins in the middle of a log begins with trades at prices that were not what the desk went by: a
    symbol's standing quote lies before it. Who never was quoted goes by its trades.
    """
    names = np.array(columns.symbols, dtype=np.str_)
    sides = ~np.isnan(columns.quotes[:, :2])
    found = np.ones(len(columns), np.bool_)
    for name in np.unique(names):
        mine = np.flatnonzero(names == name)
        if not start.get(int(columns.partition[mine[0]]), 0):
            continue
        both = np.logical_or.accumulate(sides[mine], axis=0).all(axis=1)
        if both.any():
            found[mine] = both
    return found


def open_lived(
    span: LivedSpan, horizon_ns: int, progress: Callable[[int, int], None] = lambda _, __: None
) -> LivedSource:
    """A span as a build reads it.

    Raises:
        SourceError: the archive is damaged, does not reach so far, or holds none of these ticks.
    """
    whole = read_columns(span.folder, Between(span.start, span.stop), progress)
    places, left_out = settled(whole, tolerance_ns(horizon_ns))
    if not len(places):
        told = ", ".join(f"{n:,} {why}" for why, n in left_out.items()) or "it holds none"
        raise SourceError(f"{span.spec}: no tick can be used: {told}")
    columns = whole.taken(places)
    known = quoted(columns, span.start)
    if not known.all():
        left_out[UNQUOTED] = int((~known).sum())
        columns = columns.taken(np.flatnonzero(known))
    first = first_times(span.folder, span.stop)

    def batches(size: int) -> Iterator[LivedBatch]:
        for begin in range(0, len(columns), size):
            yield columns.batch(begin, min(len(columns), begin + size))

    return LivedSource(span.spec, batches, first, left_out)


def ripen(
    span: LivedSpan, horizon_ns: int, out: Path, progress: Callable[[str, int], None], min_rows: int = 1
) -> Manifest:
    """Write the span's rows as a dataset: those with a label have a ripe one.

    Args:
        span: of the log; the rows are a function of it, and of the horizon.
        horizon_ns: of the labels: the champion's.
        out: a folder that does not exist.
        progress: called with a stage and how much of it is done.
        min_rows: fewer ripe labels are refused.

    Raises:
        SourceError: see `open_lived`; or too few labels are ripe.
    """
    source = open_lived(span, horizon_ns, lambda done, _: progress("open", done))
    return build([source], BuildSettings(horizon_ns=horizon_ns, min_rows=min_rows), out, progress)
