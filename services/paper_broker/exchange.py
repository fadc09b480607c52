"""The paper broker's ends: orders and cancels in, reports out when they are due.

An order is committed when its last report is delivered. Whether it is taken depends on when it comes, and what
becomes of it on whether it is cancelled, so after a kill what was said of it before is looked up, and kept to; a
report that was on its way may come again, the same as before: the book knows it by its sequence.
"""

from __future__ import annotations

import heapq
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import structlog
from msgspec import Struct

from connectors.kafka.client import Consumer, KafkaException, Message, Producer, TopicPartition
from connectors.kafka.errors import CONTROL_TIMEOUT_S, HARMLESS_COMMIT_ERRORS, translated
from connectors.kafka.messages import as_bytes, is_end, offset_of, partition_of, usable
from connectors.kafka.offsets import OffsetTracker, Ticket
from connectors.kafka.reading import FOLLOWING_MS, consume_ready, reader
from services.paper_broker.answered import Said, answered
from services.paper_broker.broker import Due, cancelled
from services.paper_broker.observing import Observer
from services.paper_broker.stops import Stops
from trading.encoding import encode
from trading.errors import BadRecord, ServiceUnavailable
from trading.events import CancelOrder, NewOrder, ReportKind, read_order

log = structlog.get_logger()
CHUNK = 1000
TURN_S = 0.002
COMMIT_EVERY_S = 0.2
DRAIN_S = 10.0
SESSION_MS = 6_000


class Working(Struct):
    """An order of which something is left to say.

    Attributes:
        partition: of its reports.
        due: what is left to say, in order of time.
        ticket: of the order's record.
        sent_ns: when the order was sent.
        turn: of its next report among those that wait; another one is of before a cancel.
    """

    partition: int
    due: deque[Due]
    ticket: Ticket
    sent_ns: int
    turn: int = 0


class Answers(Protocol):
    """What a broker says of orders."""

    def fresh(self, order: NewOrder, now_ns: int, stopped: str) -> list[Due]:
        """Of one that comes now, and that the desk's own stop forbids where `stopped` says why."""

    def rest(self, order: NewOrder, said: Said) -> list[Due]:
        """What is left to say of one that was taken before."""


def subscription(group: str) -> dict[str, Any]:
    """How orders are read: those of transactions that were committed, each partition by one broker of the group."""
    return {
        "group.id": group,
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
        "isolation.level": "read_committed",
        "fetch.wait.max.ms": FOLLOWING_MS,
        # So long its orders wait for a successor of one that was killed.
        "session.timeout.ms": SESSION_MS,
        "heartbeat.interval.ms": SESSION_MS // 3,
    }


class PaperExchange:
    """Runs until stopped; what is not due by then is left to a successor, which keeps to what was said."""

    def __init__(
        self,
        bootstrap: str,
        group: str,
        orders: str,
        fills: str,
        control: str,
        answers: Answers,
        observer: Observer,
    ) -> None:
        """Connect, and hear what the desk was told so far.

        Args:
            bootstrap: broker addresses.
            group: consumer group.
            orders, fills, control: topics.
            answers: what is said of orders.
            observer: told of what is done.

        Raises:
            ServiceUnavailable: the control topic cannot be read.
        """
        self._bootstrap, self._orders, self._fills, self._answers = bootstrap, orders, fills, answers
        self._observer = observer
        shared: dict[str, Any] = {"bootstrap.servers": bootstrap, "log_level": 3}
        self._consumer = Consumer(shared | subscription(group))
        self._consumer.subscribe([orders], on_assign=self._learn, on_revoke=self._forget, on_lost=self._forget)
        # Reports that are due within a moment of one another are one request.
        self._producer = Producer({**shared, "enable.idempotence": True, "linger.ms": 5})
        self._tracker = OffsetTracker()
        #: Partitions whose orders are answered here.
        self._mine: set[int] = set()
        self._is_closing = False
        #: Orders that may be read again.
        self._answered: dict[str, Said] = {}
        self._working: dict[str, Working] = {}
        #: When the next report of an order is due, its turn, and the order's id.
        self._due: list[tuple[int, int, str]] = []
        self._stops, self._control = Stops(), reader(bootstrap, waits_ms=FOLLOWING_MS)
        self._control.assign([TopicPartition(control, 0, 0)])
        quiet_since, heard = time.monotonic(), 0
        while not self._hear(0.1):
            if self._stops.heard != heard:
                quiet_since, heard = time.monotonic(), self._stops.heard
            elif time.monotonic() - quiet_since > CONTROL_TIMEOUT_S:
                raise ServiceUnavailable(f"{control} on {bootstrap} cannot be read to its end")
        self._count, self._failure = 0, ""
        #: Records that were neither orders nor cancels.
        self.bad = 0

    def run(self, stopping: threading.Event, progress: Callable[[int], None] = lambda _: None) -> int:
        """Returns how many reports were sent. Raises ServiceUnavailable."""
        sent, next_commit = 0, 0.0
        try:
            while not stopping.is_set():
                self._hear(0.0)
                self._take_orders()
                sent += self._send(time.time_ns())
                if time.monotonic() > next_commit:
                    next_commit = time.monotonic() + COMMIT_EVERY_S
                    self._commit()
                    self._observer.holds(len(self._mine), len(self._working))
                    progress(sent)
            if self._producer.flush(DRAIN_S):
                raise ServiceUnavailable(f"reports were not delivered within {DRAIN_S:.0f} s")
            self._commit()
        except KafkaException as error:
            raise translated(error, "the paper broker's Kafka fails") from error
        finally:
            self._is_closing = True
            self._consumer.close()
            self._control.close()
        return sent

    def _hear(self, timeout_s: float) -> bool:
        """Take what the control topic told since; returns whether all was heard."""
        ended = False
        for message in consume_ready(self._control, CHUNK, timeout_s):
            # More may follow an end that was reached before it came.
            ended = is_end(message)
            if not ended and usable(message):
                self._stops.take(offset_of(message), as_bytes(message.value()))
        if self._stops.killed:
            # The desk's own cancels may never come: whoever sends them may be dead.
            for order_id in list(self._working):
                self._cancel(order_id, "the desk is killed")
        return ended

    def _take_orders(self) -> None:
        for message in consume_ready(self._consumer, CHUNK, TURN_S):
            # A rebalance may have been served between the two calls: its orders are another broker's.
            if usable(message) and partition_of(message) in self._mine:
                self._take(message)

    def _take(self, message: Message) -> None:
        partition, offset = partition_of(message), offset_of(message)
        asked: NewOrder | CancelOrder | None = None
        try:
            asked = read_order(as_bytes(message.value()))
        except BadRecord as error:
            self.bad += 1
            log.warning("no order", partition=partition, offset=offset, bad=self.bad, reason=str(error))
        self._observer.ordered("bad" if asked is None else "new" if isinstance(asked, NewOrder) else "cancel")
        found = self._say(asked) if isinstance(asked, NewOrder) else []
        ticket = self._tracker.sent(partition, offset + 1, len(found))
        if isinstance(asked, CancelOrder):
            self._cancel(asked.order_id, f"the desk is {asked.state}")
        elif asked is not None and found:
            self._working[asked.order_id] = Working(partition, deque(found), ticket, asked.sent_ns)
            self._await_next(asked.order_id)
            if self._stops.killed:
                self._cancel(asked.order_id, "the desk is killed")

    def _say(self, order: NewOrder) -> list[Due]:
        if order.order_id in self._working:
            return []
        said = self._answered.pop(order.order_id, None)
        if said is None:
            # Now, not when the log got it: a transaction's records are dated before its commit.
            return self._answers.fresh(order, time.time_ns(), self._stops.refusal(order))
        return self._answers.rest(order, said)

    def _cancel(self, order_id: str, reason: str) -> None:
        """End what works still; of an order that is done with, or is not known, there is nothing to say."""
        working = self._working.get(order_id)
        if working is None or working.due[0].report.kind is ReportKind.REJECT:
            return
        now_ns = time.time_ns()
        next_report = working.due[0].report
        for _ in range(len(working.due) - 1):
            self._tracker.done(working.ticket)
        working.due = deque([Due(now_ns, cancelled(next_report, now_ns, f"cancelled: {reason}"))])
        self._await_next(order_id)

    def _await_next(self, order_id: str) -> None:
        working = self._working[order_id]
        self._count += 1
        working.turn = self._count
        heapq.heappush(self._due, (working.due[0].at_ns, working.turn, order_id))

    def _learn(self, consumer: Any, partitions: list[TopicPartition]) -> None:
        """What was said of the orders that come again with these partitions. Raises ServiceUnavailable."""
        if self._is_closing:
            # They come as the consumer leaves, and are the next one's to answer.
            return
        self._mine |= {place.partition for place in partitions}
        try:
            places = consumer.committed(partitions, CONTROL_TIMEOUT_S)
        except KafkaException as error:
            # Out of a callback the client's own exception comes as one that nobody can catch.
            raise translated(error, f"{self._orders} cannot be read on") from error
        for place in places:
            since = max(0, place.offset)
            self._answered.update(answered(self._bootstrap, self._orders, self._fills, place.partition, since))

    def _forget(self, _: Any, partitions: list[TopicPartition]) -> None:
        """Another broker answers the orders of these partitions: what works here is its to say."""
        gone = {place.partition for place in partitions}
        self._mine -= gone
        self._working = {name: one for name, one in self._working.items() if one.partition not in gone}
        for partition in gone:
            self._tracker.forget(partition)

    def _send(self, until_ns: int) -> int:
        sent = 0
        while self._due and self._due[0][0] <= until_ns:
            _, turn, order_id = heapq.heappop(self._due)
            working = self._working.get(order_id)
            if working is None or working.turn != turn:
                continue
            report, ticket = working.due.popleft().report, working.ticket
            if working.due:
                self._await_next(order_id)
            else:
                del self._working[order_id]

            def delivered(error: Any, _: Message, ticket: Ticket = ticket) -> None:
                if error is not None:
                    self._failure = str(error)
                else:
                    self._tracker.done(ticket)

            key = report.symbol.encode()
            self._producer.produce(
                self._fills, encode(report), key, partition=working.partition, on_delivery=delivered
            )
            sent += 1
            self._observer.reported(report.kind, (time.time_ns() - working.sent_ns) / 1e9)
        self._producer.poll(0)
        if self._failure:
            raise ServiceUnavailable(f"a report was not delivered: {self._failure}")
        return sent

    def _commit(self) -> None:
        places = [TopicPartition(self._orders, p, n) for p, n in self._tracker.committable().items()]
        if not places:
            return
        try:
            self._consumer.commit(offsets=places, asynchronous=False)
        except KafkaException as error:
            if error.args[0].code() not in HARMLESS_COMMIT_ERRORS:
                raise
