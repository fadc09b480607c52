"""What works at the broker when the desk is stopped is cancelled."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import structlog

from gateway.partitions import PartitionStates
from gateway.ports import CancelSink, Clock, Metrics
from trading.decision import wire
from trading.events import CancelOrder
from trading.portfolio.cancels import to_cancel
from trading.risk.trading_state import HALTED, SEVERITY, TradingState

log = structlog.get_logger()


class OrderCanceller:
    """Asks the broker to end each order that a stop ends, once it is seen to work; the deciding thread uses it.

    What was asked is kept in memory only. Who rebuilds a partition asks again, which does no harm: the broker ends
    an order once. A cancel is no part of any transaction. It waits until its order is published for good, so that
    it lies behind it: a broker that meets the cancel first has nothing to end, and takes the order then.
    """

    def __init__(
        self,
        topic: str,
        states: PartitionStates,
        safe: Callable[[int], int],
        sink: CancelSink,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        """Prepare.

        Args:
            topic: of the ticks.
            states: of the partitions that this gateway owns.
            safe: of a partition, the offset before which every order is published for good.
            sink: how the broker is asked.
            clock: of the gateway.
            metrics: told how many orders the broker was asked to end.
        """
        self._topic, self._states, self._safe, self._sink = topic, states, safe, sink
        self._clock, self._metrics = clock, metrics
        #: Partition -> numbers of orders whose cancel is on its way, or there.
        self._asked: dict[int, set[int]] = {}

    def look(self, trading_state: TradingState) -> None:
        """Ask for what must not work on in this state. Never waits, and never fails."""
        for partition, numbers in self._sink.undelivered().items():
            self._asked.get(partition, set()).difference_update(numbers)
        severity = SEVERITY[trading_state]
        if severity < HALTED:
            # After another stop everything is asked anew.
            self._asked.clear()
            return
        for partition, state in self._states.all():
            asked, book = self._asked.setdefault(partition, set()), state.book
            asked.intersection_update(book.working.open)
            safe = self._safe(partition)
            found = [one for one in to_cancel(book, severity) if one.number < safe and one.number not in asked]
            if not found:
                continue
            asked.update(one.number for one in found)
            now_ns, limits = self._clock.now_ns(), book.limits
            self._sink.send(
                partition,
                [
                    CancelOrder(
                        wire.make_id(self._topic, partition, one.number), one.number, one.symbol, one.left,
                        trading_state, now_ns, limits.account, limits.strategy,
                    )
                    for one in found
                ],
            )  # fmt: skip
            self._metrics.cancelled(len(found))
            log.warning(
                "orders are cancelled", partition=partition, orders=len(found), trading_state=trading_state.value
            )

    def forget(self, partitions: Iterable[int]) -> None:
        """What was asked of partitions that are rebuilt, or are no longer ours."""
        for partition in partitions:
            self._asked.pop(partition, None)
