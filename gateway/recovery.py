"""Rebuilding a partition when it comes: the I/O, the time and the words around `trading.state.recovery`."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from gateway.ports import Clock
from trading.errors import ConfigurationError
from trading.intake import Admission
from trading.risk.limits import LimitSet
from trading.state.log import PartitionLog
from trading.state.recovery import Recovery, Restored

log = structlog.get_logger()


def known_alone(partitions: int, topic: str, restore: Callable[[int], Restored]) -> Callable[[int], Restored]:
    """Rebuilds the partitions that there were when this gateway started, and refuses those that came since.

    Each book has its share of the limits by their number then: with more books the shares would be more than the
    whole. And a symbol whose ticks move to a new partition would have two books.
    """

    def restored(partition: int) -> Restored:
        if partition >= partitions:
            raise ConfigurationError(
                f"{topic} has got partitions since this gateway started: it knows {partitions}, and is given "
                f"number {partition}. Limits are shared by partition, and a symbol may have moved to another book: "
                "halt the desk, flatten it, give every topic the same number of partitions, and start all gateways "
                "again"
            )
        return restore(partition)

    return restored


class PartitionRecovery:
    """Rebuilds partitions, each from its log."""

    def __init__(
        self,
        open_log: Callable[[int], PartitionLog],
        admission: Admission,
        limits: LimitSet,
        clock: Clock,
        decisions_topic: str,
        measured: Callable[[int, float, float], None] = lambda _ticks, _replay_s, _seconds: None,
        bad_record: Callable[[], None] = lambda: None,
        lost: Callable[[int, int], None] = lambda _partition, _count: None,
    ) -> None:
        """Prepare.

        Args:
            open_log: the log of a partition.
            admission: what is a tick.
            limits: before anybody set any.
            clock: of the gateway.
            decisions_topic: what a message calls the log of decisions.
            measured: told how many ticks were replayed, how long that took, and how long the whole, in s.
            bad_record: told of each record among the decisions that is none.
            lost: told of a partition how many messages were deleted before they were decided.
        """
        self._decisions_topic = decisions_topic
        self._open_log, self._admission, self._limits = open_log, admission, limits
        self._clock, self._measured, self._bad_record, self._lost = clock, measured, bad_record, lost

    def restore(self, partition: int) -> Restored:
        """Raises ServiceUnavailable, or ConfigurationError."""

        def set_aside(why: str) -> None:
            log.warning("snapshot left aside", partition=partition, reason=why)

        began_ns = self._clock.monotonic_ns()
        recovery = Recovery(self._open_log(partition), self._admission, self._limits, set_aside)
        recovery.read()
        replay_began_ns = self._clock.monotonic_ns()
        restored = recovery.replay()
        ended_ns = self._clock.monotonic_ns()
        replay_s, seconds = (ended_ns - replay_began_ns) / 1e9, (ended_ns - began_ns) / 1e9
        self._measured(restored.ticks, replay_s, seconds)
        for _ in range(restored.unreadable):
            self._bad_record()
        if restored.lost:
            log.error("ticks were deleted before they were decided", partition=partition, count=restored.lost)
            self._lost(partition, restored.lost)
        if restored.forgotten:
            log.warning(
                "ticks of earlier orders are deleted: the drawdown is latched",
                partition=partition, orders=restored.forgotten,
            )  # fmt: skip
        if restored.unreadable or restored.unknown_limits:
            log.warning(
                "not all of the past is known: the drawdown is latched; reset it when you have looked",
                partition=partition, topic=self._decisions_topic, no_decisions=restored.unreadable,
                limits_not_understood=restored.unknown_limits,
            )  # fmt: skip
        log.info(
            "partition rebuilt",
            partition=partition,
            offset=restored.next_offset,
            snapshot=restored.snapshot,
            replayed=restored.ticks,
            replay_seconds=round(replay_s, 3),
            seconds=round(seconds, 3),
        )
        return restored
