"""Whether lived rows may be learned from: what is broken, planted or told twice is refused, and named.

A batch is compared with itself (a label must follow from the prices beside it) and with rows that were lived before
it. Anything that is found refuses all of it: what else is wrong with it nobody knows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from msgspec import Struct

from trading.arrays import BoolArray, Float32Array, FloatArray, Int64Array
from trading.features.definitions import FEATURES
from trainers.data.dataset import Dataset

#: Shares of a batch's rows that chance may explain; one more refuses it.
MOST_EXTREME = 0.002
MOST_REPEATED = 0.01
MOST_CONTRADICTED = 0.002
MOST_DIFFERING = 0.2
#: So many times the largest value that was seen before is no value of any market, and so many times the largest
#: change from one row to the next: a market that is fifteen times as wild as it was is one still.
EXTREME, EXTREME_CHANGE = 50.0, 25.0
#: Of the reference's concentration (inverse Herfindahl number of symbols) so much must be left.
LEAST_VARIETY = 0.4
#: Symbols that had so large a share of the reference together do not all fall silent by chance.
MOST_GONE, LEAST_SYMBOLS = 0.3, 1.3
#: A log return that is told and one that prices say differ by rounding alone.
ROUNDING = 1e-9
LEAST_ROWS = 200
#: A feature that never was larger was not in use.
UNUSED = 1e-9
CLOCKS = np.array([name.endswith(("_sin", "_cos")) for name in FEATURES])


class Batch(Struct, frozen=True):
    """n rows in order of arrival.

    Attributes:
        symbols: int64 [n], an index into names that the reference shares.
        time_ns: int64 [n].
        features: float32 [n, 32].
        rank: int64 [n], how many rows of its symbol lie before it, in the batch or not.
        log_mid: float64 [n].
        side: int8 [n]; realised, deviation, next_log_return: float64 [n]; end_ns: int64 [n]: see `Labels`.
    """

    symbols: Int64Array
    time_ns: Int64Array
    features: Float32Array
    rank: Int64Array
    log_mid: FloatArray
    side: np.typing.NDArray[np.int8]
    realised: FloatArray
    deviation: FloatArray
    end_ns: Int64Array
    next_log_return: FloatArray

    def __len__(self) -> int:
        return len(self.time_ns)

    @classmethod
    def of(cls, data: Dataset, rows: Int64Array) -> Batch:
        """Some rows of a dataset."""
        labels = data.labels
        return cls(
            data.symbols[rows], data.time_ns[rows], np.asarray(data.features[rows]), ranks(data.symbols)[rows],
            data.log_mid[rows],
            labels.side[rows], labels.realised[rows], labels.deviation[rows], labels.end_ns[rows],
            labels.next_log_return[rows],
        )  # fmt: skip


class Fault(Struct, frozen=True):
    """What is wrong with a batch: its name, how many rows, and one sentence."""

    name: str
    rows: int
    sentence: str


class BarrierShape(Struct, frozen=True):
    """How labels were made: `up` and `down` in deviations."""

    up: float = 2.0
    down: float = 2.0


def screen(batch: Batch, reference: Batch, shape: BarrierShape) -> list[Fault]:
    """All that is wrong with a batch; nothing where it may be learned from.

    Args:
        batch: lived rows with ripe labels.
        reference: such rows that were lived before.
        shape: of the labels.
    """
    if len(batch) < LEAST_ROWS:
        told = f"{len(batch):,} rows are too few to be judged: {LEAST_ROWS:,} are the fewest"
        return [Fault("too few rows", len(batch), told)]
    if broken := [*not_finite(batch), *not_finite(reference)]:
        # Nothing else can be asked of what is no number.
        return broken
    return [
        *extreme(batch, reference), *contradicted(batch, shape), *repeated(batch), *replayed(batch, reference),
        *one_sided(batch, reference),
    ]  # fmt: skip


def screen_alone(batch: Batch, shape: BarrierShape) -> list[Fault]:
    """What can be said of a batch that nothing was before; see `screen`."""
    return not_finite(batch) or [*contradicted(batch, shape), *repeated(batch)]


def not_finite(batch: Batch) -> list[Fault]:
    """Values that are no numbers."""
    broken = ~np.isfinite(batch.features)
    found = []
    if broken.any():
        columns = [FEATURES[k] for k in np.flatnonzero(broken.any(axis=0)).tolist()]
        count = int(broken.any(axis=1).sum())
        found.append(Fault("not finite", count, f"{shown(columns)} is not finite in {count:,} rows"))
    for name in ("log_mid", "realised", "deviation", "next_log_return"):
        wrong = int((~np.isfinite(getattr(batch, name))).sum())
        if wrong:
            found.append(Fault("not finite", wrong, f"{name} is not finite in {wrong:,} rows"))
    return found


def extreme(batch: Batch, reference: Batch) -> list[Fault]:
    """Features and returns far outside of everything that was seen before, or that jump as nothing did."""
    wrong, told = np.zeros(len(batch), np.bool_), list[str]()
    seen = largest(reference.features)
    # What was 0 for as long as anybody looked, as trades before a market opens, says nothing of how large it gets.
    seen = np.where(seen > UNUSED, seen, np.inf)
    most = np.where(CLOCKS, 1.001 / EXTREME, seen)
    jumps = np.maximum(largest(changes(reference)), np.maximum(1e-3 * most, 1e-9))
    far: BoolArray = np.abs(batch.features) > EXTREME * most
    far |= np.abs(changes(batch)) > EXTREME_CHANGE * np.where(CLOCKS, 1.0, jumps)
    told += [FEATURES[k] for k in np.flatnonzero(far.any(axis=0)).tolist()]
    wrong |= far.any(axis=1)
    for name in ("realised", "next_log_return"):
        beyond = np.abs(getattr(batch, name)) > EXTREME * max(float(largest(getattr(reference, name))), 1e-9)
        told += [name] if beyond.any() else []
        wrong |= beyond
    count = int(wrong.sum())
    if count <= MOST_EXTREME * len(batch):
        return []
    return [Fault("extreme", count, f"{shown(told)} is what no market was before, in {count:,} rows")]


def largest(values: Any) -> FloatArray:
    """The largest absolute value of each column, float64."""
    found: FloatArray = np.abs(values).max(axis=0).astype(np.float64)
    return found


def changes(batch: Batch) -> FloatArray:
    """Of each feature since the symbol's row before, float64 [n, 32]; 0 for its first."""
    order = np.argsort(batch.symbols, kind="stable")
    found = np.zeros(batch.features.shape)
    steps = np.diff(batch.features[order].astype(np.float64), axis=0)
    same = batch.symbols[order][1:] == batch.symbols[order][:-1]
    found[order[1:][same]] = steps[same]
    return found


def contradicted(batch: Batch, shape: BarrierShape) -> list[Fault]:
    """Labels that do not follow from the prices of the rows beside them: turned around, moved, or made up.

    The barrier that is told must be the one that the return to the label's end reaches. The return to the next
    row, and that to the label's end where a row lies there, must be what the two prices say, where no row between
    them is missing.
    """
    impossible: BoolArray = batch.end_ns < batch.time_ns
    impossible |= (batch.side == 1) & (batch.realised < shape.up * batch.deviation - ROUNDING)
    impossible |= (batch.side == -1) & (batch.realised > -shape.down * batch.deviation + ROUNDING)
    impossible |= (batch.side == 0) & (batch.realised >= shape.up * batch.deviation + ROUNDING)
    impossible |= (batch.side == 0) & (batch.realised <= -shape.down * batch.deviation - ROUNDING)
    order = np.lexsort((np.arange(len(batch)), batch.symbols))
    following, ends = next_rows(batch, order), end_rows(batch, order)
    differs = np.zeros(len(batch), np.bool_)
    for told, place in ((batch.next_log_return, following), (batch.realised, ends)):
        known = place >= 0
        seen = batch.log_mid[place] - batch.log_mid
        moved = known & (np.abs(seen) > ROUNDING)
        impossible |= moved & (np.abs(told + seen) <= ROUNDING)
        differs |= known & (np.abs(told - seen) > ROUNDING)
    count, others = int(impossible.sum()), int(differs.sum())
    if count <= MOST_CONTRADICTED * len(batch) and others <= MOST_DIFFERING * len(batch):
        return []
    told_rows = max(count, others)
    return [
        Fault("contradicted labels", told_rows, f"{told_rows:,} labels are not what the prices beside them say")
    ]


def next_rows(batch: Batch, order: Int64Array) -> Int64Array:
    """The place of each row's next one of its symbol, int64 [n]; -1 for its last."""
    found = np.full(len(batch), -1, np.int64)
    same = batch.symbols[order][1:] == batch.symbols[order][:-1]
    # Between two rows of a batch others may be missing, which had no label.
    same &= batch.rank[order][1:] == batch.rank[order][:-1] + 1
    found[order[:-1][same]] = order[1:][same]
    return found


def end_rows(batch: Batch, order: Int64Array) -> Int64Array:
    """The place of the row of its symbol at which a label ends, int64 [n]; -1 where none is known to.

    What touched a barrier ended at that very time; the rest at the last row within it. A label that ends no
    later than the next row may have been made longer for it, and says nothing; nor does one that ends where the
    batch does.
    """
    found = np.full(len(batch), -1, np.int64)
    symbols = batch.symbols[order]
    for symbol in np.unique(symbols).tolist():
        begin, end = np.searchsorted(symbols, [symbol, symbol + 1], "left").tolist()
        mine = order[begin:end]
        at, ends = batch.time_ns[mine], batch.end_ns[mine]
        first, behind = np.searchsorted(at, ends, "left"), np.searchsorted(at, ends, "right")
        # Of several rows at one time nobody knows which it was.
        touched = (batch.side[mine] != 0) & (behind - first == 1)
        timed = (batch.side[mine] == 0) & (behind < len(mine))
        place = np.where(touched, first, np.maximum(behind - 1, 0))
        here = np.arange(len(mine))
        known = (touched | timed) & (place > here + 1) & (place < len(mine))
        reached = np.minimum(place, len(mine) - 1)
        known &= batch.rank[mine[reached]] - batch.rank[mine] == reached - here
        found[mine[known]] = mine[place[known]]
    return found


def repeated(batch: Batch) -> list[Fault]:
    """Rows that are there more than once."""
    keys = row_keys(batch)
    count = len(keys) - len(np.unique(keys))
    if count <= MOST_REPEATED * len(batch):
        return []
    return [Fault("duplicated", count, f"{count:,} rows of {len(batch):,} are there more than once")]


def replayed(batch: Batch, reference: Batch) -> list[Fault]:
    """Rows that were lived before, and are told again."""
    count = int(np.isin(row_keys(batch), row_keys(reference)).sum())
    if count <= MOST_REPEATED * len(batch):
        return []
    return [Fault("replayed", count, f"{count:,} rows of {len(batch):,} were lived before already")]


def row_keys(batch: Batch) -> Int64Array:
    """Of each row a number that rows of the same symbol, time, price and features share, int64 [n]."""
    # Times and prices of ticks are all but unique; a mixture of their bits is enough to tell rows apart.
    parts = [
        batch.symbols, batch.time_ns, batch.log_mid.view(np.int64),
        np.ascontiguousarray(batch.features).view(np.int32).astype(np.int64).sum(axis=1),
    ]  # fmt: skip
    mixed = np.zeros(len(batch), np.uint64)
    for part in parts:
        mixed = (mixed ^ part.astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
    return mixed.view(np.int64)


def one_sided(batch: Batch, reference: Batch) -> list[Fault]:
    """Far fewer symbols than there were."""
    now, before = variety(batch.symbols), variety(reference.symbols)
    count = int(max(batch.symbols.max(), reference.symbols.max())) + 1
    shares = np.bincount(reference.symbols, minlength=count) / max(1, len(reference))
    gone = float(shares[np.bincount(batch.symbols, minlength=count) == 0].sum())
    if (now >= LEAST_VARIETY * before and gone < MOST_GONE) or before < LEAST_SYMBOLS:
        return []
    told = f"its rows are as of {now:.1f} symbols, where they were as of {before:.1f}"
    return [Fault("one symbol", len(batch), told)]


def variety(symbols: Int64Array) -> float:
    """How many symbols with equal shares would be as unlike (inverse Herfindahl index)."""
    shares = np.bincount(symbols) / max(1, len(symbols))
    return 1.0 / max(1e-12, float((shares**2).sum()))


def ranks(symbols: Int64Array) -> Int64Array:
    """How many rows of its symbol lie before each, int64 [n]."""
    order = np.argsort(symbols, kind="stable")
    found = np.empty(len(symbols), np.int64)
    first = np.searchsorted(symbols[order], symbols[order], "left")
    found[order] = np.arange(len(symbols)) - first
    return found


def shown(names: list[str]) -> str:
    """Some of them."""
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
