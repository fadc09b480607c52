"""What other limits would have done: the same ticks and targets decided twice, by the gateway's own code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import Struct

from trading.arrays import FloatArray
from trading.decision.columns import TickColumns
from trading.decision.decide import broken_rules, decide
from trading.decision.policy import DecisionPolicy
from trading.decision.schema import CODES, Decision, Reason
from trading.decision.wire import decode_decision
from trading.errors import BadRecord, ConfigurationError
from trading.features.definitions import FEATURES
from trading.features.engine import FeatureEngine
from trading.history import Source
from trading.market import TickBatch
from trading.portfolio.book import Book
from trading.risk.engine import ACCEPT, CLIP, DENY
from trading.risk.limits import LimitSet
from trading.risk.model import BROKEN, OFF
from trading.risk.rules import NAMES
from trading.risk.trading_state import ACTIVE, SEVERITY

CHUNK = 1024
SHOWN = 10
TREND = FEATURES.index("bollinger_position")
#: Reasons that the limits have nothing to do with: they hold in both runs.
GIVEN = {
    Reason.DEADLINE, Reason.SUPERSEDED, Reason.PREDICTOR_TIMEOUT, Reason.PREDICTOR_UNAVAILABLE,
    Reason.PREDICTOR_INVALID,
}  # fmt: skip


class SimulationPart(Struct, frozen=True):
    """n ticks of one book with what a model wanted, in order; arrays as in `TickColumns`, and the trading state."""

    book: int
    symbols: list[str]
    event_time_ns: Any
    quote_time_ns: Any
    market: FloatArray
    warm: Any
    held: Any
    targets: FloatArray
    state: int


class Side(Struct, frozen=True):
    """What one set of limits did.

    Attributes:
        limits: their version.
        wanted: orders that were wanted.
        accepted, clipped, denied: of these.
        broken: how often each rule was.
        traded: money, the sum of abs(quantity) x price.
        profit, max_gross: at the end, and at most, in money.
        nearest: of each rule with a number, the largest share of its limit that passed.
    """

    limits: str
    wanted: int
    accepted: int
    clipped: int
    denied: int
    broken: dict[str, int]
    traded: float
    profit: float
    max_gross: float
    nearest: dict[str, float]


class LimitChange(Struct, frozen=True):
    """A tick that was decided differently."""

    symbol: str
    event_time_ns: int
    base: str
    new: str


class Simulation(Struct, frozen=True):
    """The result of `ultrathink risk simulate`."""

    source: str
    ticks: int
    changed: int
    base: Side
    new: Side
    first_changes: list[LimitChange]
    plot: str


class Trace(Struct):
    """One run as it goes; a point a chunk for the plot."""

    limits: LimitSet
    books: dict[int, Book]
    counts: Counter[int]
    broken: Counter[str]
    nearest: FloatArray
    traded: float
    max_gross: float
    points: list[tuple[int, float, float, int]]


def simulate(
    source: str, parts: Iterable[SimulationPart], base: LimitSet, new: LimitSet
) -> tuple[Simulation, Trace, Trace]:
    """Decide every part under both limits; the books go apart where the decisions do."""
    one, other = new_trace(base), new_trace(new)
    ticks = changed = 0
    first: list[LimitChange] = []
    for part in parts:
        a, b = run(one, part, ticks), run(other, part, ticks)
        n = len(part.symbols)
        differs = np.flatnonzero(np.any(a != b, axis=1))
        changed += len(differs)
        for k in differs[: SHOWN - len(first)].tolist():
            words = [describe(side[k]) for side in (a, b)]
            first.append(LimitChange(part.symbols[k], int(part.event_time_ns[k]), *words))
        ticks += n
    if not ticks:
        raise ConfigurationError(f"{source} holds nothing to decide")
    return Simulation(source, ticks, changed, side_of(one), side_of(other), first, ""), one, other


def new_trace(limits: LimitSet) -> Trace:
    """Nothing has happened yet."""
    return Trace(limits, {}, Counter(), Counter(), np.zeros(len(NAMES)), 0.0, 0.0, [])


def run(trace: Trace, part: SimulationPart, number: int) -> FloatArray:
    """Decide a part; returns float64 [n, 2], outcome (negative: no order was wanted) and quantity."""
    book = trace.books.get(part.book)
    if book is None:
        book = trace.books[part.book] = Book(trace.limits)
    n = len(part.symbols)
    ticks = TickColumns(
        book.rows(part.symbols), np.arange(number, number + n), part.event_time_ns, part.quote_time_ns,
        part.event_time_ns, part.market, part.warm, part.held, part.targets,
    )  # fmt: skip
    quota = np.inf if trace.limits.book.max_desk_notional is None else trace.limits.book.max_desk_notional
    context = DecisionPolicy(trace.limits).context(trace.limits, state=part.state, desk_quota=quota)
    out = decide(book, ticks, context)
    judged = out.outcomes >= 0
    trace.counts.update(out.outcomes[judged].tolist())
    results, values, limits = out.results[judged], out.values[judged], out.limits[judged]
    trace.broken.update(broken_rules(out))
    with np.errstate(divide="ignore", invalid="ignore"):
        used = np.where((results != OFF) & (results != BROKEN) & (values <= limits), values / limits, 0.0)
    if len(used):
        trace.nearest = np.maximum(trace.nearest, np.nan_to_num(used).max(axis=0))
    traded = np.abs(out.quantities) * np.nan_to_num(out.prices)
    trace.traded += float(traded.sum())
    gross = sum(each.gross for each in trace.books.values())
    trace.max_gross = max(trace.max_gross, gross)
    equity = sum(each.equity for each in trace.books.values())
    profit = equity - sum(float(each.tables.account.capital[0]) for each in trace.books.values())
    trace.points.append((int(part.event_time_ns[-1]), profit, gross, trace.counts[DENY] + trace.counts[CLIP]))
    return np.stack([out.outcomes.astype(np.float64), out.quantities], axis=1)


def side_of(trace: Trace) -> Side:
    """What one run came to."""
    c = trace.counts
    return Side(
        limits=trace.limits.version,
        wanted=sum(c.values()),
        accepted=c[ACCEPT],
        clipped=c[CLIP],
        denied=c[DENY],
        broken=dict(trace.broken.most_common()),
        traded=trace.traded,
        profit=trace.points[-1][1],
        max_gross=trace.max_gross,
        nearest={name: float(v) for name, v in zip(NAMES, trace.nearest, strict=True) if v > 0.0},
    )


def describe(decided: FloatArray) -> str:
    """One side of a change."""
    outcome, quantity = int(decided[0]), float(decided[1])
    if outcome < 0:
        return "no order"
    return "denied" if outcome == DENY else f"{'clipped to ' if outcome == CLIP else ''}{quantity:+g}"


def parts_of_source(source: Source, limit: int | None) -> Iterator[SimulationPart]:
    """Recorded ticks with the targets of a plain trend follower: each symbol's place within its Bollinger bands.

    So limits can be tried without a model: what matters is that it trades much and both ways.
    """
    engine = FeatureEngine()
    records = islice(source.records(), limit)
    while ticks := [record.tick for record in islice(records, CHUNK)]:
        batch = TickBatch.from_ticks(ticks)
        found = engine.update(batch)
        targets = np.clip(found.values[:, TREND].astype(np.float64), -1.0, 1.0)
        yield SimulationPart(
            0, list(batch.symbols), found.event_time_ns, found.quote_time_ns, found.market, found.warm,
            np.full(len(ticks), -1, np.int8), targets, ACTIVE,
        )  # fmt: skip


def parts_of_decisions(payloads: Iterable[bytes]) -> Iterator[SimulationPart]:
    """Recorded decisions, a book a partition, in chunks of one trading state.

    A decision keeps the mid, and the touch on its order's side; the other touch is taken as far from the mid.
    """
    waiting: dict[tuple[int, int], list[Decision]] = {}
    for payload in payloads:
        try:
            decision = decode_decision(payload)
        except BadRecord as error:
            raise ConfigurationError(f"a line is no decision of this version: {error}") from error
        place = decision.decision_id.rsplit("-", 2)
        if len(place) != 3 or not place[1].isdigit():
            raise ConfigurationError(
                f"{decision.decision_id!r} is no decision's id: expected TOPIC-PARTITION-OFFSET"
            )
        partition = int(place[1])
        key = (partition, SEVERITY[decision.trading_state])
        for other in [k for k in waiting if k[0] == partition and k != key]:
            yield part_of(other, waiting.pop(other))
        mine = waiting.setdefault(key, [])
        mine.append(decision)
        if len(mine) == CHUNK:
            yield part_of(key, waiting.pop(key))
    for key, mine in waiting.items():
        yield part_of(key, mine)


def part_of(key: tuple[int, int], decisions: list[Decision]) -> SimulationPart:
    """Decisions as arrays."""
    n, (book, state) = len(decisions), key
    market = np.full((n, 4), np.nan)
    for k, d in enumerate(decisions):
        mid = np.nan if d.mid_price is None else d.mid_price
        half = 0.0 if d.reference_price is None else abs(d.reference_price - mid)
        market[k] = mid - half, mid + half, mid, mid
    times = np.array([d.event_time_ns for d in decisions], np.int64)
    held = np.array([CODES[d.reason] if d.reason in GIVEN else -1 for d in decisions], np.int8)
    targets = np.array([np.nan if d.target_position is None else d.target_position for d in decisions])
    warm = np.array([d.warm for d in decisions], np.bool_)
    return SimulationPart(book, [d.symbol for d in decisions], times, times, market, warm, held, targets, state)


def plot(path: Path, one: Trace, other: Trace) -> None:
    """Profit, gross exposure and interventions of both, over the run."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 9), layout="constrained")
    panels = figure.subplots(3, 1, sharex=True)
    labels = ("profit, money", "gross exposure, money", "orders clipped or denied")
    for trace, name, colour in ((one, "limits before", "#8d99ae"), (other, "new limits", "#d1495b")):
        points = np.array(trace.points, np.float64)
        x = np.array([p[0] for p in trace.points], "datetime64[ns]")
        order = np.argsort(x)
        for k, axes in enumerate(panels, 1):
            axes.plot(x[order], points[order, k], label=name, color=colour, linewidth=1.2)
    for axes, label in zip(panels, labels, strict=True):
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
    panels[0].legend(loc="upper left")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
