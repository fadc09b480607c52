"""Rebuilding a partition when it comes: the I/O, the time and the words around `trading.state.recovery`."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import structlog

from gateway.ports import Clock
from trading.errors import ConfigurationError
from trading.intake import Admission
from trading.risk.limits import LimitSet
from trading.state.recovery import PartitionLog, Recovery, Restored

log = structlog.get_logger()


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
    ) -> None:
        """Prepare.

        Args:
            open_log: the log of a partition.
            admission: what is a tick.
            limits: before anybody set any.
            clock: of the gateway.
            decisions_topic: what a message calls the log of decisions.
            measured: told how many ticks were replayed, how long that took, and how long the whole, in s.
        """
        self._decisions_topic = decisions_topic
        self._open_log, self._admission, self._limits = open_log, admission, limits
        self._clock, self._measured = clock, measured

    def restore(self, partition: int) -> Restored:
        """Raises ServiceUnavailable, or ConfigurationError for a log of another version."""

        def set_aside(why: str) -> None:
            log.warning("snapshot left aside", partition=partition, reason=why)

        began_ns = self._clock.monotonic_ns()
        recovery = Recovery(self._open_log(partition), self._admission, self._limits, set_aside)
        try:
            recovery.read()
            replay_began_ns = self._clock.monotonic_ns()
            restored = recovery.replay()
        except msgspec.DecodeError as error:
            raise ConfigurationError(
                f"{self._decisions_topic}[{partition}] holds something that is no decision of this version "
                f"({error}): name another topic with ULTRATHINK_GATEWAY_DECISIONS_TOPIC"
            ) from error
        ended_ns = self._clock.monotonic_ns()
        replay_s, seconds = (ended_ns - replay_began_ns) / 1e9, (ended_ns - began_ns) / 1e9
        self._measured(restored.ticks, replay_s, seconds)
        if restored.forgotten:
            log.warning(
                "ticks of earlier orders are deleted: the drawdown is latched",
                partition=partition, orders=restored.forgotten,
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
