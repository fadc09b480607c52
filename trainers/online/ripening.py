"""Labels that are ripe: ticks of a desk's archive become rows when what their labels look at lies in the log.

A label is a function of the ticks between its row and its end, so it is ripe when they all have come, and no tick
that comes later changes it. What could ripen one early is a clock: a tick dated ahead ends every label of its
symbol whose horizon lies before that date. So a tick counts only where most of those of its symbol that came after
it are dated no earlier, and where it is no further ahead of the broker's clock than its symbol's ticks are wont to
be; the newest of a symbol, which have too little after them, wait. One that is dated long before what its symbol
has reached is late, or told again: it says nothing of what the price is now.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from msgspec import Struct

from trading.arrays import BoolArray, Int64Array
from trading.history.archive import Between, show_offsets
from trading.history.source import LivedBatch, LivedSource
from trainers.data.archived_columns import ArchivedColumns, first_times, read_columns
from trainers.data.build import BuildSettings, TooFewRows, build
from trainers.data.manifest import Manifest

#: Ticks of a symbol after one that say whether it was dated ahead: so many of each symbol wait.
FOLLOWING = 128
#: It was, where so large a share of them is dated before it: a few late ones accuse nobody.
MOST_BEFORE = 0.2
#: Of a feed whose dates keep up with the broker's clock; those of a replay do not.
LIVE_NS = 1_000_000_000
#: A copy of a tick with so many others of its symbol between is no producer's second try.
FAR = 64
EVERY, MOST_JITTER = 16, 8.0
#: What of a span may be copies: told again, and right behind one another beside what its feed always had.
MOST_FAR, MOST_NEAR, MOST_NEAR_FACTOR, PARTS = 0.005, 0.4, 1.5, 8
#: Clocks of one feed's producers differ by less than this share of a horizon; 1 ms to 1 s.
TOLERANCE = 0.1
LEAST_TOLERANCE_NS, MOST_TOLERANCE_NS = 1_000_000, 1_000_000_000
UNQUOTED = "its quote stood before the first tick here"
LATE = "dated long before what its symbol had reached"
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
        Their places, int64 [m], in order. Whether a tick is one depends on those of its symbol before it and on the
        FOLLOWING ones after it: more of the log takes none away.
    """
    keep = np.zeros(len(columns), np.bool_)
    left_out: Counter[str] = Counter()
    for mine in by_symbol(columns):
        dated, appended = columns.event_time_ns[mine], columns.appended_ns[mine]
        left_out[WAITS] += min(len(mine), FOLLOWING)
        if len(mine) < 2 * FOLLOWING:
            # Too few to say what is usual of it.
            left_out[WAITS] += max(0, len(mine) - FOLLOWING)
            continue
        windows = np.lib.stride_tricks.sliding_window_view(dated[1:], FOLLOWING)
        known = dated[: len(windows)]
        ahead = (windows < (known - ahead_ns)[:, None]).mean(axis=1) > MOST_BEFORE
        ahead |= ahead_of_the_broker(known, appended[: len(windows)], ahead_ns)
        reached = np.maximum.accumulate(np.where(ahead, np.iinfo(np.int64).min, known))
        late = ~ahead & (known < reached - ahead_ns)
        keep[mine[: len(windows)][~ahead & ~late]] = True
        left_out[AHEAD] += int(ahead.sum())
        left_out[LATE] += int(late.sum())
    return np.flatnonzero(keep), {why: n for why, n in left_out.items() if n}


def by_symbol(columns: ArchivedColumns) -> list[Int64Array]:
    """The places of each symbol's ticks, in order."""
    names = np.array(columns.symbols, dtype=np.str_)
    order = np.argsort(names, kind="stable")
    bounds = np.flatnonzero(names[order][1:] != names[order][:-1]) + 1
    return np.split(order, bounds) if len(order) else []


def ahead_of_the_broker(dated: Int64Array, appended: Int64Array, ahead_ns: int) -> BoolArray:
    """Of a live feed, the ticks that are further ahead of the broker's clock than those before them, bool [n].

    What is usual is the median of FOLLOWING ticks before, taken anew every EVERY: a clock that was moved for longer
    is a clock. The first ones are judged by themselves. Of a replay, whose dates run at another pace, this says
    nothing. `n` is FOLLOWING or more.
    """
    lead = dated - appended
    windows = np.lib.stride_tricks.sliding_window_view(lead, FOLLOWING)[::EVERY]
    low, usual = np.quantile(windows, [0.25, 0.5], axis=1)
    # Of the lower half alone: what is dated ahead must not widen what it is judged by.
    spread = 2.0 * (usual - low)
    most = usual + np.maximum(ahead_ns, MOST_JITTER * spread)
    most[spread > LIVE_NS] = np.inf
    # Window w ends with tick EVERY w + FOLLOWING - 1, and judges the EVERY ticks behind it.
    which = np.maximum(0, (np.arange(len(lead)) - FOLLOWING) // EVERY)
    found: BoolArray = lead > most[which]
    return found


class Repeats(Struct, frozen=True):
    """Ticks that are there more than once, of one symbol, time and quote.

    Attributes:
        ticks: of the span.
        far: copies with many others of their symbol between: told again.
        usual, most: shares of ticks at whose moments each is there more than once, of eight parts of the span: in a
            part that has few, and in the one that has most. Some feeds have them; one that is sent twice has no
            others.
    """

    ticks: int
    far: int
    usual: float
    most: float

    @property
    def faults(self) -> list[str]:
        """What is wrong with it, named; nothing where nothing is."""
        found = []
        if self.far > MOST_FAR * self.ticks:
            found.append(f"replayed: {self.far:,} of {self.ticks:,} ticks were told before already")
        if self.most > MOST_NEAR_FACTOR * self.usual + MOST_NEAR:
            told = f"{self.most:.0%} of an eighth of the ticks are there twice, and {self.usual:.0%} of others"
            found.append(f"duplicated: {told}")
        return found


def repeats(columns: ArchivedColumns) -> Repeats:
    """How many ticks of a span are there more than once."""
    far, doubled = 0, np.zeros(len(columns), np.bool_)
    for mine in by_symbol(columns):
        dated = columns.event_time_ns[mine]
        parts = [dated[:, None], columns.quotes[mine].view(np.int64)]
        rows = np.ascontiguousarray(np.concatenate(parts, axis=1))
        _, which, count = np.unique(rows, axis=0, return_inverse=True, return_counts=True)
        order = np.argsort(which, kind="stable")
        same = np.flatnonzero(which[order][1:] == which[order][:-1])
        # A clock of whole seconds has many alike: those are told again whose symbol had gone on since.
        behind = dated < np.maximum.accumulate(dated)
        far += int(((order[same + 1] - order[same] > FAR) & behind[order[same + 1]]).sum())
        # Of one moment some prints may be alike; where all are there twice, somebody sends twice.
        moments, moment = np.unique(dated, return_inverse=True)
        alone = np.bincount(moment, count[which] == 1, len(moments)) > 0
        doubled[mine] = ~alone[moment]
    shares = [float(part.mean()) for part in np.array_split(doubled, PARTS) if len(part)] or [0.0]
    return Repeats(len(columns), far, float(np.quantile(shares, 0.25)), max(shares))


def quoted(columns: ArchivedColumns, start: dict[int, int]) -> BoolArray:
    """Whether the quote that stood at each tick is known, bool [n].

    A span that begins in the middle of a log begins with trades at prices that were not what the desk went by: a
    symbol's standing quote lies before it. Who is not quoted in its first FOLLOWING ticks goes by its trades.
    """
    sides = ~np.isnan(columns.quotes[:, :2])
    found = np.ones(len(columns), np.bool_)
    for mine in by_symbol(columns):
        if not start.get(int(columns.partition[mine[0]]), 0):
            continue
        reached: BoolArray = np.logical_or.accumulate(sides[mine], axis=0)
        both = reached[:, 0] & reached[:, 1]
        # Its first ticks say whether it is quoted at all: more of the log must not take rows away.
        if both[:FOLLOWING].any():
            found[mine] = both
    return found


def open_lived(
    span: LivedSpan, horizon_ns: int, progress: Callable[[int, int], None] = lambda _, __: None
) -> LivedSource:
    """A span as a build reads it.

    Raises:
        SourceError: the archive is damaged, or does not reach so far.
        TooFewRows: no tick of the span can be used yet.
    """
    whole = read_columns(span.folder, Between(span.start, span.stop), progress)
    places, left_out = settled(whole, tolerance_ns(horizon_ns))
    if not len(places):
        told = ", ".join(f"{n:,} {why}" for why, n in left_out.items()) or "it holds none"
        raise TooFewRows(f"{span.spec}: no tick can be used: {told}")
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
