"""The partitions that this gateway owns, each with its state."""

from __future__ import annotations

from collections.abc import Callable

from trading.portfolio.book import BookSummary
from trading.state.partition import PartitionState


class PartitionStates:
    """State of the partitions that this gateway owns."""

    def __init__(self, new: Callable[[], PartitionState] = PartitionState) -> None:
        self._new = new
        self._partitions: dict[int, PartitionState] = {}

    def of(self, partition: int) -> PartitionState:
        """The partition's state, begun when it is first asked for."""
        state = self._partitions.get(partition)
        if state is None:
            state = self._partitions[partition] = self._new()
        return state

    def books(self) -> dict[int, BookSummary]:
        """Each partition's book at a glance, from any thread."""
        return {partition: state.book.summary() for partition, state in sorted(self._partitions.copy().items())}

    def all(self) -> list[tuple[int, PartitionState]]:
        """Each partition and its state."""
        return list(self._partitions.items())

    def put(self, partition: int, state: PartitionState) -> None:
        """Take over a rebuilt state."""
        self._partitions[partition] = state

    def drop(self, partition: int) -> None:
        """Forget a partition."""
        self._partitions.pop(partition, None)
