"""Everything that decides, a partition: its features and its book. A function of the log alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from msgspec import Struct

from trading.arrays import FloatArray, Int64Array
from trading.events import PartitionEvents
from trading.features.engine import FeatureEngine, FeatureRows
from trading.market import MID, Tick, TickBatch
from trading.portfolio.book import Book, BookDump
from trading.risk.limits import LimitSet


class FeatureDump(Struct, frozen=True):
    """A copy of a partition's feature state."""

    symbols: list[str]
    ints: Int64Array
    floats: FloatArray


class Snapshot(Struct, frozen=True):
    """A partition's state before the tick at `offset`.

    `decisions_from` is an offset in the decisions' partition: no decision of a tick at or after
    `offset` lies before it. `fills_to` and `control_to` are what had been taken of these topics.
    """

    partition: int
    offset: int
    decisions_from: int
    features: FeatureDump
    book: BookDump
    limits: bytes
    fills_to: int
    control_to: int


class PartitionState:
    """What a partition's past means for its next tick; the deciding thread alone moves it.

    Attributes:
        features: of every symbol.
        book: positions, orders, money.
        fills_to, control_to: what was taken of the broker's reports, and of the control topic.
    """

    def __init__(self, limits: LimitSet | None = None) -> None:
        self.features = FeatureEngine()
        self.book = Book(limits)
        self.fills_to = self.control_to = 0

    @classmethod
    def of(cls, snapshot: Snapshot) -> PartitionState:
        """The state that a snapshot describes. Raises ValueError when it does not fit this version."""
        limits = LimitSet.decode(snapshot.limits)
        state = cls(limits)
        found = snapshot.features
        state.features = FeatureEngine.load(found.symbols, found.ints, found.floats)
        state.book = Book.load(snapshot.book, limits)
        state.fills_to, state.control_to = snapshot.fills_to, snapshot.control_to
        return state

    def observe(self, batch: TickBatch, out: FeatureRows | None = None) -> FeatureRows:
        """Feed ticks to the features alone; the rows go to `out` if given."""
        return self.features.update(batch, out)

    def dump_features(self) -> FeatureDump:
        """A copy."""
        return FeatureDump(*self.features.dump())

    def snapshot(self, partition: int, offset: int, decisions_from: int, features: FeatureDump) -> Snapshot:
        """The whole state, once the book is where `features` were."""
        return Snapshot(
            partition, offset, decisions_from, features, self.book.dump(), self.book.limits.encode(),
            self.fills_to, self.control_to,
        )  # fmt: skip

    def take(self, inputs: PartitionEvents) -> None:
        """Limits, resets and reports, before the next tick."""
        for command, limits in inputs.commands:
            if limits is not None:
                self.book.set_limits(limits)
            elif command.kind == "reset":
                self.book.reset(command.value)
        self.control_to = max(self.control_to, inputs.control_to)
        if inputs.reports:
            self.book.apply(inputs.reports)
        self.fills_to = max(self.fills_to, inputs.fills_to)

    def replay(
        self,
        ticks: Sequence[Tick],
        sent_ns: Sequence[int],
        offsets: Sequence[int],
        orders: Mapping[int, tuple[float, float]],
        *,
        assumed: bool,
    ) -> None:
        """Take ticks that were decided before, without deciding them again.

        Args:
            ticks, sent_ns, offsets: n ticks, when they were sent, and where they lie.
            orders: signed quantity and price of the orders that came of them, by offset.
            assumed: whether orders count as filled at once.
        """
        if not ticks:
            return
        batch = TickBatch.from_ticks(ticks)
        found = self.observe(batch)
        times = np.stack([found.event_time_ns, found.quote_time_ns, np.array(sent_ns, np.int64)], axis=1)
        made = np.zeros((len(ticks), 2))
        for k, offset in enumerate(offsets):
            if offset in orders:
                made[k] = orders[offset]
        mids, numbers = np.ascontiguousarray(found.market[:, MID]), np.array(offsets, np.int64)
        self.book.replay(batch.symbols, times, mids, numbers, made, assumed=assumed)
