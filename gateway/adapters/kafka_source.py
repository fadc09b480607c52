"""Ticks of a consumer group: partitions come, are rebuilt off the polling thread, and go."""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

import structlog

from connectors.kafka.client import OFFSET_BEGINNING, Consumer, KafkaException, Message, TopicPartition
from connectors.kafka.errors import HARMLESS_COMMIT_ERRORS, translated
from connectors.kafka.messages import appended_ns, as_bytes, offset_of, origin, partition_of, unread, usable
from connectors.kafka.reading import FOLLOWING_MS, consume_ready, leave, wake
from gateway.adapters.kafka_member import Membership
from gateway.ports import RawBatch, RawSlice
from gateway.workers import Worker
from trading.state.recovery import Restored

log = structlog.get_logger()
SESSION_TIMEOUT_MS = 6_000
#: From losing all partitions to joining anew, unless the group has answered.
REJOIN_AFTER_S = 3.0
LONGEST_REJOIN_S = 30.0
#: A stop waits no longer for a leader that was asked and is gone.
CLOSE_S = 1.0


class Assignment(Protocol):
    """Who must know that partitions come and go."""

    def ready(self, partition: int, restored: Restored) -> None:
        """Take a rebuilt partition over, before its first tick."""

    def revoked(self, partitions: list[int]) -> None:
        """Finish and forget partitions that are being given away."""

    def lost(self, partitions: list[int]) -> None:
        """Forget partitions that another gateway has already."""


class KafkaTickSource:
    """Implements TickSource with a static member of a consumer group.

    A partition that is assigned stays paused while a thread rebuilds it; the others go on meanwhile.
    The instance's name keeps its place in the group over a restart, so that nobody waits for a
    session to time out.
    """

    def __init__(
        self,
        bootstrap: str,
        group: str,
        instance: str,
        topic: str,
        log_name: str,
        restore: Callable[[int], Restored],
        assignment: Assignment,
    ) -> None:
        """Join the group.

        Args:
            bootstrap: broker addresses.
            group: consumer group.
            instance: this member's lasting name within it.
            topic: ticks.
            log_name: noted with committed offsets: of a topic that is made anew they mean nothing.
            restore: rebuilds a partition; called in a thread of its own.
            assignment: told as partitions come and go, in the polling thread.
        """
        self.topic, self._log_name = topic, log_name
        self._restore, self._assignment = restore, assignment
        #: Partition -> the next offset that is wanted of it.
        self._wanted: dict[int, int] = {}
        self._assignments: dict[int, int] = {}
        self._orders: queue.Queue[tuple[int, int] | None] = queue.Queue()
        self._rebuilt: queue.Queue[tuple[int, int, Restored | BaseException]] = queue.Queue()
        self._on_hold = False
        #: Threads that ask leaders of this member.
        self._waking: list[threading.Thread] = []
        self._metadata: Any = None
        self._metadata_is_old = True
        self._bootstrap, self._group, self._instance = bootstrap, group, instance
        self._membership = Membership(bootstrap, group, instance, topic)
        self._rejoin_by, self._rejoin_after_s = math.inf, REJOIN_AFTER_S
        self.worker = Worker("restore", self._rebuild_all)
        self.worker.start()
        self._consumer = self._join()

    def group_metadata(self, *, renew: bool = False) -> Any:
        """Who we are in the group: a transaction with it fails once we are not.

        As of the last rebalance; `renew` asks the polling thread to look again. Asked from another
        thread, librdkafka now and then takes a second to answer.

        Raises ServiceUnavailable where another gateway has taken our place: to try again would fence it. Where
        it was a request of our own, what is tried with the old place fails until the polling thread has a new one.
        """
        self._membership.check()
        self._metadata_is_old |= renew
        return self._metadata

    def restoring(self) -> int:
        """Partitions that are assigned and not yet rebuilt."""
        return len(self._assignments) - len(self._wanted)

    def poll(self, max_messages: int, timeout_s: float) -> RawBatch | None:
        """What `consume_ready` finds, once those partitions that were rebuilt meanwhile are read."""
        self._rejoin_if_needed()
        self._go_on()
        self._take_rebuilt()
        messages = consume_ready(self._consumer, max_messages, timeout_s)
        self._has_ended()
        self._renew_metadata()
        received_ns = time.time_ns()
        found: dict[int, list[Message]] = {}
        for message in messages:
            if message.error() is None or usable(message):
                found.setdefault(message.partition() or 0, []).append(message)
        slices = [
            self._slice(partition, those, received_ns)
            for partition, those in found.items()
            # A rebalance may have been served while they were taken: its ticks are another gateway's.
            if partition in self._wanted
        ]
        slices = [part for part in slices if len(part)]
        return RawBatch(slices, received_ns) if slices else None

    def hold(self) -> None:
        """Pause every partition and serve the group; `poll` resumes them, or joins anew where we were fenced."""
        if self._has_ended():
            # Nobody can publish what is in flight: it is not wanted any more, so that there is room to poll.
            self._forget_all()
            return
        if not self._on_hold:
            self._on_hold = True
            self._pause(list(self._wanted))
        message = self._consumer.poll(0)
        self._has_ended()
        self._renew_metadata()
        if message is not None and usable(message):
            # It was fetched before the pause: it is read again.
            self._seek(partition_of(message), offset_of(message))

    def commit(self, next_offsets: dict[int, int], *, wait: bool = False) -> None:
        """Commit; a failed commit only makes a restart replay more."""
        if not next_offsets:
            return
        offsets = [TopicPartition(self.topic, p, n, metadata=self._log_name) for p, n in next_offsets.items()]
        try:
            if wait:
                self._consumer.commit(offsets=offsets, asynchronous=False)
            else:
                self._consumer.commit(offsets=offsets, asynchronous=True)
        except KafkaException as error:
            if wait and error.args[0].code() not in HARMLESS_COMMIT_ERRORS:
                raise translated(error, "offsets were not committed") from error
            if wait:
                log.warning("the last offsets were not committed", reason=error.args[0].str())

    def rebuild(self, partitions: list[int]) -> None:
        """Forget what was made of them, and make it anew as if they had just come; they stay ours."""
        mine = [p for p in partitions if self._wanted.pop(p, None) is not None]
        self._pause(mine)
        self._assignment.lost(mine)
        for number in mine:
            assignment = self._assignments[number] = time.monotonic_ns()
            self._orders.put((number, assignment))

    def close(self) -> None:
        """Leave; the group keeps our place for a session's length."""
        self._orders.put(None)
        leave(self._consumer, self._waking, CLOSE_S)

    def _join(self) -> Consumer:
        consumer = Consumer(
            {
                "bootstrap.servers": self._bootstrap,
                "group.id": self._group,
                "group.instance.id": self._instance,
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                # What is gone before it was read is not passed over.
                "auto.offset.reset": "error",
                "isolation.level": "read_committed",
                "partition.assignment.strategy": "cooperative-sticky",
                "session.timeout.ms": SESSION_TIMEOUT_MS,
                "heartbeat.interval.ms": 1_000,
                "fetch.wait.max.ms": FOLLOWING_MS,
                "queued.max.messages.kbytes": 16_384,
                "reconnect.backoff.max.ms": 1_000,
                "log_level": 3,
            },
            logger=self._membership.begin(),
        )
        consumer.subscribe([self.topic], self._on_assign, self._on_revoke, self._on_lost)
        return consumer

    # ---- the polling thread -------------------------------------------------------------------

    def _slice(self, partition: int, messages: list[Message], received_ns: int) -> RawSlice:
        good = unread(messages, self._wanted, partition)
        appended = [appended_ns(m, received_ns) for m in good]
        origins = [origin(m, at_ns) for m, at_ns in zip(good, appended, strict=True)]
        return RawSlice(
            partition=partition,
            offsets=[offset_of(m) for m in good],
            sent_ns=[sent for sent, _ in origins],
            keys=[as_bytes(m.key()) for m in good],
            payloads=[as_bytes(m.value()) for m in good],
            traceparents=[trace for _, trace in origins],
            appended_ns=appended,
        )

    def _rejoin_if_needed(self) -> None:
        """After a coordinator's restart librdkafka's member may wait for ever, or be fenced: begin with a new one.

        It forgets its id in the group when its session times out; a heartbeat that it sends without one is fenced,
        and that ends it.
        """
        if self._has_ended():
            why = "the group has fenced our own member"
        elif time.monotonic() >= self._rejoin_by:
            why = "not back in the group"
        else:
            return
        log.warning("joining anew", reason=why, next_after_s=self._rejoin_after_s)
        self._rejoin_after_s = min(2 * self._rejoin_after_s, LONGEST_REJOIN_S)
        self._rejoin_by = time.monotonic() + self._rejoin_after_s
        self._forget_all()
        self._assignments.clear()
        # The new member takes the old one's place by its name; nobody waits for the old one's end.
        gone = (self._consumer, self._waking)
        threading.Thread(target=leave, args=gone, name="leave", daemon=True).start()
        self._waking, self._consumer = [], self._join()
        self._metadata_is_old = True

    def _forget_all(self) -> None:
        if self._wanted:
            self._assignment.lost(sorted(self._wanted))
            self._wanted.clear()

    def _renew_metadata(self) -> None:
        if self._metadata_is_old:
            self._metadata_is_old = False
            self._metadata = self._consumer.consumer_group_metadata()
            self._membership.given(self._consumer.memberid())

    def _go_on(self) -> None:
        if self._on_hold:
            self._on_hold = False
            self._resume(list(self._wanted))

    def _pause(self, partitions: list[int]) -> None:
        self._consumer.pause([TopicPartition(self.topic, p) for p in partitions])

    def _take_rebuilt(self) -> None:
        while True:
            try:
                partition, assignment, outcome = self._rebuilt.get_nowait()
            except queue.Empty:
                return
            if self._assignments.get(partition) != assignment:
                continue  # it went away, and perhaps came again, meanwhile
            if isinstance(outcome, BaseException):
                raise outcome
            self._assignment.ready(partition, outcome)
            self._wanted[partition] = outcome.next_offset
            self._seek(partition, outcome.next_offset)
            self._resume([partition])

    def _resume(self, partitions: list[int]) -> None:
        places = [TopicPartition(self.topic, p) for p in partitions]
        self._consumer.resume(places)
        self._waking = [thread for thread in self._waking if thread.is_alive()]
        self._waking.append(threading.Thread(target=wake, args=(self._consumer, places), name="wake", daemon=True))
        self._waking[-1].start()

    def _seek(self, partition: int, offset: int) -> None:
        try:
            self._consumer.seek(TopicPartition(self.topic, partition, offset))
        except KafkaException as error:
            # A member that is nobody any more cannot seek either: why it is not lies in its queue.
            self._consumer.poll(0)
            if self._has_ended():
                return  # a new member is given everything anew
            raise translated(error, f"{self.topic}[{partition}]") from error

    def _has_ended(self) -> bool:
        """Whether our member is none any more and another of ours may go on. Raises ServiceUnavailable if not."""
        return self._membership.ended(self._consumer.memberid)

    def _on_assign(self, consumer: Any, partitions: list[TopicPartition]) -> None:
        if self._is_replaced(consumer):
            return
        self._rejoin_by, self._rejoin_after_s = math.inf, REJOIN_AFTER_S
        self._metadata_is_old = True
        consumer.incremental_assign([TopicPartition(self.topic, p.partition, OFFSET_BEGINNING) for p in partitions])
        self._pause([p.partition for p in partitions])
        for number in (p.partition for p in partitions):
            assignment = self._assignments[number] = time.monotonic_ns()
            self._orders.put((number, assignment))

    def _on_revoke(self, consumer: Any, partitions: list[TopicPartition]) -> None:
        if self._is_replaced(consumer):
            return
        # Now, not at the next poll: what is in flight is published before this returns.
        self._metadata = consumer.consumer_group_metadata()
        self._metadata_is_old = True
        self._assignment.revoked(self._give_up(partitions))
        consumer.incremental_unassign(partitions)

    def _on_lost(self, consumer: Any, partitions: list[TopicPartition]) -> None:
        if self._is_replaced(consumer):
            return
        # Whoever publishes what is in flight waits for it, and this for them.
        self._has_ended()
        self._rejoin_by = time.monotonic() + self._rejoin_after_s
        self._metadata_is_old = True
        self._assignment.lost(self._give_up(partitions))
        consumer.incremental_unassign(partitions)

    def _is_replaced(self, consumer: Any) -> bool:
        """Whether it is another member that tells this: what that had is ours, and another thread ends it."""
        return consumer is not self._consumer

    def _give_up(self, partitions: list[TopicPartition]) -> list[int]:
        gone = [p.partition for p in partitions]
        for number in gone:
            self._assignments.pop(number, None)
        return [number for number in gone if self._wanted.pop(number, None) is not None]

    # ---- the restoring thread -----------------------------------------------------------------

    def _rebuild_all(self) -> None:
        while (order := self._orders.get()) is not None:
            partition, assignment = order
            if self._assignments.get(partition) != assignment:
                continue
            try:
                outcome: Restored | BaseException = self._restore(partition)
            except BaseException as error:  # noqa: BLE001 - handed to poll(), which raises it
                outcome = error
            self._rebuilt.put((partition, assignment, outcome))
