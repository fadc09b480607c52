"""Everything that decides, a partition: features, positions, stream clock. A function of the log alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

from gateway.domain.features import FeatureEngine
from gateway.domain.position import Book
from gateway.domain.schemas import Tick, TickBatch
from gateway.domain.stream_clock import StreamClock


class PartitionState:
    """What a partition's past means for its next tick."""

    def __init__(self) -> None:
        self.book = Book()
        self.clock = StreamClock()


class GatewayState:
    """State of the partitions that this gateway owns."""

    def __init__(self) -> None:
        self.features = FeatureEngine()
        self._partitions: dict[int, PartitionState] = {}

    def of(self, partition: int) -> PartitionState:
        """The partition's state, begun when it is first asked for."""
        state = self._partitions.get(partition)
        if state is None:
            state = self._partitions[partition] = PartitionState()
        return state

    def drop(self, partition: int) -> None:
        """Forget a partition."""
        self._partitions.pop(partition, None)
        self.features.drop_partition(partition)

    def replay(self, partition: int, ticks: Sequence[Tick]) -> None:
        """Take ticks that were decided before, without deciding them again."""
        if not ticks:
            return
        rows = self.features.update(TickBatch.from_ticks(ticks, [partition] * len(ticks)))
        state = self.of(partition)
        for tick, mid in zip(ticks, rows.market[:, 3].tolist(), strict=True):
            state.clock.advance(tick.event_time_ns)
            if not math.isnan(mid):
                state.book.mark(tick.symbol, mid)
