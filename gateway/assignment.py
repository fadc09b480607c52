"""What happens as partitions come and go: rebuilt state is taken over, what leaves is finished and forgotten."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import structlog

from gateway.partitions import PartitionStates
from gateway.pipeline import Pipeline
from gateway.ports import DecisionSink, ExposureReservation
from trading.risk.limits import LimitSet
from trading.state.partition import PartitionState
from trading.state.recovery import Restored

log = structlog.get_logger()


class Forgetful(Protocol):
    """Something that keeps a partition's affairs as long as it is ours."""

    def forget(self, partition: int) -> None:
        """Another gateway decides it."""


class Fills(Forgetful, Protocol):
    """Where the broker's reports come from."""

    def begin(self, partition: int, offset: int) -> None:
        """The partition is decided here, and has taken everything before `offset`."""


class AssignmentMetrics(Protocol):
    """What is counted."""

    def partitions(self, count: int) -> None:
        """Partitions owned now."""


class PartitionAssignment:
    """Implements Assignment: told by the source, in the polling thread."""

    def __init__(
        self,
        limits: LimitSet,
        metrics: AssignmentMetrics,
        keepers: Sequence[Forgetful],
        reservations: ExposureReservation,
        fills: Fills | None,
    ) -> None:
        """Nothing is owned yet.

        Args:
            limits: of a partition that has no past.
            metrics: told how many are owned.
            keepers: who must forget what leaves.
            reservations: of the desk's limit; something is reserved before a partition's first order.
            fills: of the broker; None where orders count as filled.
        """
        self.states = PartitionStates(lambda: PartitionState(limits))
        self._metrics, self._keepers, self._reservations, self._fills = metrics, keepers, reservations, fills
        self._owned: set[int] = set()

    def begin(self, pipeline: Pipeline, sink: DecisionSink) -> None:
        """Before the first poll."""
        self._pipeline, self._sink = pipeline, sink

    def partitions(self) -> list[int]:
        """Those that are decided here now."""
        return sorted(self._owned)

    def ready(self, partition: int, restored: Restored) -> None:
        """A partition was rebuilt."""
        self._pipeline.adopt(partition, restored)
        self._reservations.quota(partition, restored.state.book.gross)
        if self._fills is not None:
            self._fills.begin(partition, restored.state.fills_to)
        self._owned.add(partition)
        self._metrics.partitions(len(self._owned))

    def revoked(self, partitions: list[int]) -> None:
        """Finish and forget what is being given away."""
        self._pipeline.drain()
        self._forget(partitions)

    def lost(self, partitions: list[int]) -> None:
        """Forget what another gateway has already."""
        self._pipeline.abandon(partitions)
        self._forget(partitions)

    def _forget(self, partitions: list[int]) -> None:
        self._pipeline.forget(partitions)
        forgetful = [self._sink, *self._keepers, *([] if self._fills is None else [self._fills])]
        for partition in partitions:
            for one in forgetful:
                one.forget(partition)
            self.states.drop(partition)
            self._owned.discard(partition)
        self._metrics.partitions(len(self._owned))
        log.info("partitions gone", partitions=partitions)
