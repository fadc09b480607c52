"""The contiguous watermark of delivered batches, a partition."""

from __future__ import annotations

import threading
from collections import deque


class Ticket:
    """A batch of one partition on its way: how many of its messages are not yet confirmed."""

    __slots__ = ("left", "next_offset", "partition")

    def __init__(self, partition: int, next_offset: int, messages: int) -> None:
        self.partition, self.next_offset, self.left = partition, next_offset, messages


class OffsetTracker:
    """Knows up to where every tick is safely decided. Gaps in the log (compaction, aborts) are fine."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sent: dict[int, deque[Ticket]] = {}
        self._next: dict[int, int] = {}
        self._reported: dict[int, int] = {}

    def begin(self, partition: int, next_offset: int) -> None:
        """Everything before is safe."""
        with self._lock:
            self._sent[partition] = deque()
            self._next[partition] = self._reported[partition] = next_offset

    def sent(self, partition: int, next_offset: int, messages: int) -> Ticket:
        """Note a batch that is being sent, in order within its partition."""
        ticket = Ticket(partition, next_offset, messages)
        with self._lock:
            self._sent.setdefault(partition, deque()).append(ticket)
            self._advance(partition)
        return ticket

    def done(self, ticket: Ticket) -> None:
        """One message of the batch is confirmed."""
        with self._lock:
            ticket.left -= 1
            self._advance(ticket.partition)

    def safe(self, partition: int) -> int:
        """The next offset to read after a restart; 0 for a partition never begun."""
        with self._lock:
            return self._next.get(partition, 0)

    def committable(self) -> dict[int, int]:
        """Partition -> next offset to read, for those that moved since the last call."""
        with self._lock:
            moved = {p: n for p, n in self._next.items() if self._reported.get(p) != n}
            self._reported.update(moved)
            return moved

    def forget(self, partition: int) -> None:
        """The partition belongs to another gateway."""
        with self._lock:
            for known in (self._sent, self._next, self._reported):
                known.pop(partition, None)

    def _advance(self, partition: int) -> None:
        waiting = self._sent.get(partition)
        while waiting and waiting[0].left == 0:
            self._next[partition] = waiting.popleft().next_offset
