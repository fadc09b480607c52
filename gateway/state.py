"""Everything that decides, a partition: features, positions, stream clock. A function of the log alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from msgspec import Struct

from gateway.domain.features import FeatureEngine, FeatureRows
from gateway.domain.position import Book
from gateway.domain.schemas import FloatArray, Int64Array, Tick, TickBatch
from gateway.domain.stream_clock import StreamClock


class FeatureDump(Struct, frozen=True):
    """A copy of a partition's feature state."""

    symbols: list[str]
    ints: Int64Array
    floats: FloatArray


class Snapshot(Struct, frozen=True):
    """A partition's state before the tick at `offset`.

    `decisions_from` is an offset in the decisions' partition: no decision of a tick at or after
    `offset` lies before it.
    """

    partition: int
    offset: int
    decisions_from: int
    features: FeatureDump
    quantities: dict[str, float]
    marks: dict[str, float]
    clock_ns: int


class PartitionState:
    """What a partition's past means for its next tick; the deciding thread alone moves it."""

    def __init__(self) -> None:
        self.features = FeatureEngine()
        self.book = Book()
        self.clock = StreamClock()

    @classmethod
    def of(cls, snapshot: Snapshot) -> PartitionState:
        """The state that a snapshot describes. Raises ValueError when it does not fit this version."""
        state = cls()
        found = snapshot.features
        state.features = FeatureEngine.load(found.symbols, found.ints, found.floats)
        state.book = Book.load(snapshot.quantities, snapshot.marks)
        state.clock = StreamClock(snapshot.clock_ns)
        return state

    def observe(self, batch: TickBatch, out: FeatureRows | None = None) -> FeatureRows:
        """Feed ticks to the features alone; the rows go to `out` if given."""
        return self.features.update(batch, out)

    def dump_features(self) -> FeatureDump:
        """A copy."""
        return FeatureDump(*self.features.dump())

    def snapshot(self, partition: int, offset: int, decisions_from: int, features: FeatureDump) -> Snapshot:
        """The whole state, once book and clock are where `features` were."""
        return Snapshot(partition, offset, decisions_from, features, *self.book.dump(), self.clock.now_ns)

    def replay(self, ticks: Sequence[Tick]) -> None:
        """Take ticks that were decided before, without deciding them again."""
        if not ticks:
            return
        batch = TickBatch.from_ticks(ticks)
        found = self.observe(batch)
        self.clock.advance(int(found.event_time_ns.max()))
        mids, rows = found.market[:, 3], self.book.rows(batch.symbols)
        priced = ~np.isnan(mids)
        # Of a symbol's marks the last one stays.
        self.book.marks[rows[priced]] = mids[priced]


class GatewayState:
    """State of the partitions that this gateway owns."""

    def __init__(self) -> None:
        self._partitions: dict[int, PartitionState] = {}

    def of(self, partition: int) -> PartitionState:
        """The partition's state, begun when it is first asked for."""
        state = self._partitions.get(partition)
        if state is None:
            state = self._partitions[partition] = PartitionState()
        return state

    def put(self, partition: int, state: PartitionState) -> None:
        """Take over a rebuilt state."""
        self._partitions[partition] = state

    def drop(self, partition: int) -> None:
        """Forget a partition."""
        self._partitions.pop(partition, None)
