"""What works at the broker when the desk is stopped is cancelled."""

from __future__ import annotations

from collections.abc import Iterable

import structlog

from gateway.partitions import PartitionStates
from gateway.ports import CancelSink, Ports
from trading.decision import wire
from trading.events import CancelOrder
from trading.portfolio.book import Book
from trading.portfolio.cancels import to_cancel
from trading.risk.trading_state import HALTED, SEVERITY, TradingState

log = structlog.get_logger()


class OrderCanceller:
    """Asks the broker to end each order that a stop ends, once it is seen to work; the deciding thread uses it.

    What was asked is kept in memory only. Who rebuilds a partition asks again, which does no harm: the broker ends
    an order once. A cancel is no part of any transaction. It waits until its order is published for good, so that
    it lies behind it: a broker that meets the cancel first has nothing to end, and takes the order then.
    """

    def __init__(self, ports: Ports, cancels: CancelSink, states: PartitionStates) -> None:
        """Prepare.

        Args:
            ports: what is published for good, what the broker reports, time, and who counts.
            cancels: how the broker is asked.
            states: of the partitions that this gateway owns.
        """
        self._ports, self._cancels, self._states = ports, cancels, states
        #: Partition -> numbers of orders whose cancel is on its way, or there.
        self._asked: dict[int, set[int]] = {}

    def look(self) -> None:
        """Ask for what must not work on in the state that the desk is in now. Never waits, and never fails."""
        for partition, numbers in self._cancels.undelivered().items():
            self._asked.get(partition, set()).difference_update(numbers)
        trading_state = self._ports.states.trading_state()
        if SEVERITY[trading_state] < HALTED:
            # After another stop everything is asked anew.
            self._asked.clear()
            return
        for partition, state in self._states.all():
            self._look_at(partition, state.book, trading_state)

    def _look_at(self, partition: int, book: Book, trading_state: TradingState) -> None:
        asked = self._asked.setdefault(partition, set())
        asked.intersection_update(book.working.open)
        safe, events = self._ports.sink.safe(partition), self._ports.events
        untaken = [] if events is None else events.untaken(partition)
        found = [
            one
            for one in to_cancel(book, SEVERITY[trading_state], untaken)
            if one.number < safe and one.number not in asked
        ]
        if not found:
            return
        asked.update(one.number for one in found)
        now_ns, limits = self._ports.clock.now_ns(), book.limits
        self._cancels.send(
            partition,
            [
                CancelOrder(
                    wire.make_id(self._ports.source.topic, partition, one.number), one.number, one.symbol, one.left,
                    trading_state, now_ns, limits.account, limits.strategy,
                )
                for one in found
            ],
        )  # fmt: skip
        self._ports.metrics.cancelled(len(found))
        log.warning(
            "orders are cancelled", partition=partition, orders=len(found), trading_state=trading_state.value
        )

    def forget(self, partitions: Iterable[int]) -> None:
        """What was asked of partitions that are rebuilt, or are no longer ours."""
        for partition in partitions:
            self._asked.pop(partition, None)
