"""When what is decided is published: in its own thread, all that waits together, no more in flight than fits."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

from msgspec import Struct

from gateway.outbox import PendingBatch, merged
from gateway.ports import Clock, DecisionSink, Metrics, PartitionOutbox, SnapshotStore, StateStore
from trading.errors import ServiceUnavailable
from trading.risk.trading_state import SEVERITY
from trading.state.partition import Snapshot

POLL_S = 0.05
DRAIN_S = 30.0
#: Snapshots that may wait for their decisions to be safe.
MOST_UNSAFE = 64


class Tokens:
    """A semaphore on a queue that is written in C: taking one costs a microsecond, not twenty."""

    def __init__(self, count: int) -> None:
        self._queue: queue.SimpleQueue[None] = queue.SimpleQueue()
        for _ in range(count):
            self._queue.put(None)

    def take(self, timeout_s: float) -> bool:
        """Whether one was free within the time."""
        try:
            self._queue.get(timeout=timeout_s)
        except queue.Empty:
            return False
        return True

    def give(self) -> None:
        """Give one back."""
        self._queue.put(None)


class InFlight(Struct, frozen=True):
    """What was decided and is not published: batches, and ticks of them."""

    batches: int
    ticks: int


class Publisher:
    """Publishes until it is stopped; whatever it dies of ends the gateway."""

    def __init__(
        self,
        sink: DecisionSink,
        snapshots: SnapshotStore,
        states: StateStore,
        clock: Clock,
        metrics: Metrics,
        max_unpublished: int,
    ) -> None:
        """Prepare; `start` begins.

        Args:
            sink: where everything goes.
            snapshots: told of those whose decisions are safe.
            states: what the desk allows, looked at before every try to publish.
            clock: of the gateway.
            metrics: what is counted.
            max_unpublished: batches between poll and publication.
        """
        self._sink, self._snapshots, self._states = sink, snapshots, states
        self._clock, self._metrics = clock, metrics
        #: Bounded by the tokens.
        self._outgoing: queue.SimpleQueue[PendingBatch | None] = queue.SimpleQueue()
        self._room = Tokens(max_unpublished)
        self._idle = threading.Condition()
        self._batches = self._ticks = 0
        self._abandoned: set[int] = set()
        #: Whose orders were not let out: what was decided after them rests on them.
        self._overtaken: set[int] = set()
        self._unsafe: list[Snapshot] = []
        self._unsafe_lock = threading.Lock()
        self._failed: Callable[[], None] = lambda: None
        self._meanwhile: Callable[[], None] = lambda: None
        self._thread: threading.Thread | None = None
        self.failure: BaseException | None = None

    # ---- the deciding thread ------------------------------------------------------------------

    def start(self, failed: Callable[[], None], meanwhile: Callable[[], None] = lambda: None) -> None:
        """Begin to publish.

        Args:
            failed: called when that can go on no longer.
            meanwhile: called again and again by the deciding thread while that waits for what is published.
        """
        self._failed, self._meanwhile = failed, meanwhile
        self._thread = threading.Thread(target=self._run, name="publish", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Publish what waits, then end."""
        self._outgoing.put(None)
        if self._thread is not None:
            self._thread.join()

    def take_room(self, timeout_s: float) -> bool:
        """Whether another batch may be read; it must be handed over, or its room given back."""
        return self._room.take(timeout_s)

    def give_room(self) -> None:
        """Nothing was read."""
        self._room.give()

    def hand_over(self, pending: PendingBatch) -> None:
        """Publish it, after those that were handed over before."""
        with self._idle:
            self._batches += 1
            self._ticks += pending.ticks
        self._outgoing.put(pending)

    def in_flight(self) -> InFlight:
        """As of now; safe from any thread."""
        return InFlight(self._batches, self._ticks)

    def wait_until_idle(self) -> None:
        """Until all that was handed over is published, or publishing has failed. Raises ServiceUnavailable."""
        for _ in range(int(DRAIN_S / POLL_S)):
            if self.is_idle_within(POLL_S):
                return
            self._meanwhile()
        raise ServiceUnavailable(f"{self._batches} batches were still in flight after {DRAIN_S:.0f} s")

    def is_idle_within(self, seconds: float) -> bool:
        """Whether all that was handed over is published, or publishing has failed, within the time."""
        with self._idle:
            return self._idle.wait_for(lambda: self._batches == 0 or self.failure is not None, seconds)

    def abandon(self, partitions: list[int]) -> None:
        """Another gateway owns them already: what is in flight of them must not be published."""
        self._abandoned.update(partitions)
        self.wait_until_idle()
        self._abandoned.difference_update(partitions)

    def forget(self, partitions: list[int]) -> None:
        """Their snapshots that wait are no longer ours to keep; called while nothing is in flight."""
        with self._unsafe_lock:
            self._unsafe = [s for s in self._unsafe if s.partition not in partitions]

    def take_overtaken(self) -> list[int]:
        """Partitions whose orders must not leave any more: nothing of them was published, nor will be.

        The deciding thread decides them again, from what is published: the late ones are then held, and the stop
        denies the rest.
        """
        if not self._overtaken:
            return []
        self.wait_until_idle()
        found = sorted(self._overtaken)
        self._overtaken.difference_update(found)
        return found

    # ---- the publishing thread ----------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._run_until_stopped()
        except BaseException as error:  # noqa: BLE001 - handed to the deciding thread, which raises it
            self.failure = error
            self._failed()
            with self._idle:
                self._idle.notify_all()

    def _run_until_stopped(self) -> None:
        while True:
            self._sink.poll()
            try:
                first = self._outgoing.get(timeout=POLL_S)
            except queue.Empty:
                self._offer_snapshots()
                continue
            if first is None:
                return
            together, ended = self._all_that_wait(first)
            self._publish(together)
            if ended:
                return

    def _all_that_wait(self, first: PendingBatch) -> tuple[list[PendingBatch], bool]:
        """What can be published now, and whether nothing more will come."""
        together = [first]
        while True:
            try:
                pending = self._outgoing.get_nowait()
            except queue.Empty:
                return together, False
            if pending is None:
                return together, True
            together.append(pending)

    def _publish(self, together: list[PendingBatch]) -> None:
        began_ns = self._clock.monotonic_ns()
        outbox = merged(together)
        with self._unsafe_lock:
            for pending in together:
                self._unsafe += pending.snapshots
        for partition, part in outbox.items():
            part.records += self._snapshots.take_records(partition)
        self._sink.publish(outbox, lambda partition: self._may_leave(partition, outbox[partition]))
        now_ns = self._clock.monotonic_ns()
        self._offer_snapshots()
        ticks = [pending.ticks for pending in together]
        handled_s = [(now_ns - pending.polled_ns) / 1e9 for pending in together]
        self._metrics.published(ticks, (now_ns - began_ns) / 1e9, handled_s)
        with self._idle:
            self._batches -= len(together)
            self._ticks -= sum(ticks)
            self._metrics.unfinished(self._ticks)
            self._idle.notify_all()
        for pending in together:
            if pending.counted:
                self._room.give()

    def _offer_snapshots(self) -> None:
        """A snapshot must not be ahead of what is decided for good."""
        if not self._unsafe:
            return
        with self._unsafe_lock:
            waiting = []
            for snapshot in self._unsafe:
                if self._sink.safe(snapshot.partition) >= snapshot.offset:
                    self._snapshots.offer(snapshot)
                elif self._owned(snapshot.partition):
                    waiting.append(snapshot)
            self._unsafe = waiting[-MOST_UNSAFE:]

    def _owned(self, partition: int) -> bool:
        return partition not in self._abandoned and partition not in self._overtaken

    def _may_leave(self, partition: int, part: PartitionOutbox) -> bool:
        """Whether a share may be published now; one whose orders may not is decided again.

        Here, and not where it was decided: this is where an order's effect leaves us, and seconds may lie between.
        """
        if not self._owned(partition):
            return False
        late = self._clock.now_ns() > part.expires_ns
        if late or SEVERITY[self._states.trading_state()] > part.severity:
            self._overtaken.add(partition)
            self._metrics.overtaken(late=late)
            return False
        return True
